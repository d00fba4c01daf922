"""The flags of one size on the command line: which each operation has, and what those left out are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.bench.suites import Size, one_size
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

REQUIRED = ""
_IMAGE = dict.fromkeys(("n", "c", "h", "w", "k", "filter_h", "filter_w"), REQUIRED)
# operation -> flag -> default; REQUIRED has none, another flag's name in braces stands for its value
FLAGS: Mapping[str, Mapping[str, str]] = {
    "gemm": {"m": REQUIRED, "n": REQUIRED, "k": REQUIRED, "a_t": "0", "b_t": "0"},
    "linear": {"tokens": REQUIRED, "inputs": REQUIRED, "outputs": REQUIRED},
    "conv": {**_IMAGE, "pad_h": "0", "pad_w": "0", "stride_h": "1", "stride_w": "1", "groups": "1"},
    "rnn": {"type": "lstm", "hidden": REQUIRED, "batch": REQUIRED, "timesteps": REQUIRED},
    "sparse_gemm": {"m": REQUIRED, "n": REQUIRED, "k": REQUIRED, "sparsity": "0.95"},
    "grouped_gemm": {
        "groups": REQUIRED, "m": REQUIRED, "n_per_group": REQUIRED, "k": REQUIRED, "routing": "balanced",
        "layer": "one", "pass": "fwd",
    },
    "attention": {
        "batch": "1", "heads": REQUIRED, "kv_heads": "{heads}", "seq_q": REQUIRED, "seq_kv": "{seq_q}",
        "head_dim": REQUIRED, "causal": "0", "kind": "self",
    },
    "norm": {"kind": "layernorm", "rows": REQUIRED, "dim": REQUIRED, "layout": ""},
    "softmax_loss": {"kind": "cross_entropy", "rows": REQUIRED, "classes": REQUIRED, "dtype": ""},
    "embedding": {
        "kind": "embedding", "num_rows": REQUIRED, "dim": REQUIRED, "num_indices": REQUIRED, "pooling_factor": "1",
        "mode": "none",
    },
    "optimizer": {"optimizer": "AdamW", "n_params": REQUIRED, "n_tensors": "1", "min_bytes_moved": "0"},
    "elementwise": {"kind": "gelu", "elements": REQUIRED},
    "all_reduce": {"floats": REQUIRED, "processors": "2"},
    "collective": {"collective": REQUIRED, "elements": REQUIRED, "dtype": "fp32", "ranks": "2"},
}  # fmt: skip
_OPTIONAL = frozenset({"layout", "dtype"})
_WORDS = frozenset({"routing", "layer", "pass", "type", "kind", "layout", "dtype", "mode", "optimizer", "collective"})
_CHOICES = {
    "type": ("vanilla", "lstm", "gru"), "a_t": ("0", "1"), "b_t": ("0", "1"), "causal": ("0", "1"),
    "mode": ("none", "sum"), "routing": ("balanced", "skewed"),
    "optimizer": ("AdamW", "SGD", "clip_grad_norm", "zero_grad"),
}  # fmt: skip


def size_from_flags(op: str, arguments: Sequence[str]) -> Size:
    """A size from `--m 1760 --n 128 --k 1760`; LongpoleError names what is missing or wrong."""
    if op not in FLAGS:
        raise LongpoleError(f"no operation {op!r}; there are {', '.join(FLAGS)}")
    given = _pairs(op, arguments)
    values: dict[str, str] = {"network": "one"}
    missing = [name for name, default in FLAGS[op].items() if default == REQUIRED and name not in {*given, *_OPTIONAL}]
    if missing:
        raise LongpoleError(f"{op} needs {' '.join('--' + name.replace('_', '-') for name in missing)}")
    for name, default in FLAGS[op].items():
        values[name] = given.get(name, default.format(**given) if "{" in default else default)
        values[name] = _checked(name, values[name])
    if op == "conv":
        _check_image(values)
    return one_size(op, values)


def described() -> Iterator[tuple[str, str]]:
    """Each operation with its flags: `--m` must be given, `[--a-t 0]` may be left out."""
    for op, flags in FLAGS.items():
        parts: list[str] = []
        for name, default in flags.items():
            flag = f"--{name.replace('_', '-')}"
            value = f"--{default.strip('{}').replace('_', '-')}" if "{" in default else default
            needed = default == REQUIRED and name not in _OPTIONAL
            parts.append(flag if needed else f"[{flag} {value}]" if value else f"[{flag}]")
        yield op, " ".join(parts)


def _pairs(op: str, arguments: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    rest = [part for argument in arguments for part in (argument.split("=", 1) if argument[:2] == "--" else [argument])]
    for flag, value in zip(rest[::2], [*rest[1::2], None], strict=False):
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or name not in FLAGS[op]:
            known = ", ".join("--" + each.replace("_", "-") for each in FLAGS[op])
            raise LongpoleError(f"{op} has no flag {flag}; it has {known}")
        if value is None:
            raise LongpoleError(f"{flag} needs a value")
        found[name] = value
    return found


def _checked(name: str, value: str) -> str:
    """The value, whole numbers without a point or a power of ten; LongpoleError where it cannot be one."""
    if name in _CHOICES and value not in _CHOICES[name]:
        raise LongpoleError(f"--{name.replace('_', '-')} is one of {', '.join(_CHOICES[name])}, not {value!r}")
    if name in _WORDS or name in _CHOICES:
        return value
    least = 0 if name.startswith("pad") or name in {"min_bytes_moved"} else 1
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if name == "sparsity":
        if not 0 <= number < 1:
            raise LongpoleError(f"--sparsity is at least 0 and below 1, not {value!r}")
        return value
    if not (least <= number < 2**40 and number.is_integer()):
        raise LongpoleError(f"--{name.replace('_', '-')} is a whole number from {least}, not {value!r}")
    return str(int(number))


def _check_image(values: dict[str, str]) -> None:
    for side, axis in (("h", "height"), ("w", "width")):
        if int(values[f"filter_{side}"]) > int(values[side]) + 2 * int(values[f"pad_{side}"]):
            raise LongpoleError(f"the filter is larger than the padded image in {axis}")
    if int(values["c"]) % int(values["groups"]) or int(values["k"]) % int(values["groups"]):
        raise LongpoleError("--c and --k must be multiples of --groups")
