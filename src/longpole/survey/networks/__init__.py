"""Reference networks in plain torch, one file a network or a family, each built from numbers and nothing else."""
