"""The same measurement on the networks that people train, side by side."""
