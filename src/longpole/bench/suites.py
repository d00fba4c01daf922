"""The suites: every size of DeepBench by its headers, and of networks in use now. Facts from `data/`, never code."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING

from longpole.cost.convolution import output_size
from longpole.cost.recurrent import deepbench_flops

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_KERNELS = resources.files("longpole.bench") / "data" / "kernels"


@dataclass(frozen=True, slots=True)
class Size:
    """One size of one operation; `row` is as the data file has it, values as text."""

    suite: str
    op: str
    index: int
    row: Mapping[str, str]

    def number(self, name: str) -> int:
        return int(float(self.row[name]))

    @property
    def label(self) -> str:
        """What tells it from its neighbours."""
        return _LABELS[self.op](self)

    @property
    def flops(self) -> float:
        """Of forward; 0 where memory decides. Only the order of a suite depends on it."""
        return _FLOPS.get(self.op, lambda _: 0.0)(self)


# suite -> (op, data file, which rows); the order is that of reports
_FILES: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "deepbench-train": (
        ("gemm", "gemm", "train"), ("conv", "conv", "train"), ("rnn", "rnn", "train"),
        ("all_reduce", "allreduce", "train"),
    ),
    "deepbench-inference-server": (
        ("gemm", "gemm", "inference_server"), ("conv", "conv", "inference_server"),
        ("rnn", "rnn", "inference_server"), ("sparse_gemm", "sparse_gemm", "inference_server"),
    ),
    "deepbench-inference-device": (
        ("gemm", "gemm", "inference_device"), ("conv", "conv", "inference_device"),
        ("rnn", "rnn", "inference_device"), ("sparse_gemm", "sparse_gemm", "inference_device"),
    ),
    "modern": (
        ("gemm", "modern_gemm", ""), ("grouped_gemm", "modern_grouped_gemm", ""),
        ("attention", "modern_attention", ""), ("conv", "modern_conv", ""), ("norm", "modern_norm", ""),
        ("softmax_loss", "modern_softmax_ce", ""), ("embedding", "modern_embedding", ""),
        ("optimizer", "modern_optimizer", ""), ("elementwise", "modern_elementwise_memory", ""),
        ("collective", "modern_collective", ""),
    ),
}  # fmt: skip
SUITES = tuple(_FILES)


@lru_cache(maxsize=8)
def load_suite(name: str) -> tuple[Size, ...]:
    """Every size of a suite, in the order of the data; KeyError for a suite that is none."""
    return tuple(
        Size(name, op, index, row) for op, file, part in _FILES[name] for index, row in enumerate(_rows(file, part))
    )


def _rows(file: str, part: str) -> list[dict[str, str]]:
    text = (_KERNELS / f"{file}.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    # A size that the original comments out (`index` -1) is no part of its suite.
    return [row for row in rows if row.get("suite", "") == part and row.get("index") != "-1"]


def counts(name: str) -> dict[str, int]:
    """Sizes of each operation."""
    found: dict[str, int] = {}
    for size in load_suite(name):
        found[size.op] = found.get(size.op, 0) + 1
    return found


def one_size(op: str, values: Mapping[str, int | str]) -> Size:
    """A size given by flags, of any operation with flags of its own."""
    return Size("one", op, 0, {name: str(value) for name, value in values.items()})


def _gemm_label(size: Size) -> str:
    letters = "".join("T" if size.row[name] == "1" else "N" for name in ("a_t", "b_t"))
    batch = f"{size.row['batch_count']} x " if size.row.get("batch_count", "1") != "1" else ""
    layer = f" {size.row['network']} {size.row['layer']} {size.row['pass']}" if "layer" in size.row else ""
    return f"{batch}m {size.row['m']} n {size.row['n']} k {size.row['k']} {letters}{layer}"


def _conv_label(size: Size) -> str:
    r = size.row
    groups = f" groups {r['groups']}" if r.get("groups", "1") != "1" else ""
    return (
        f"{r['n']} x {r['c']} x {r['h']} x {r['w']}, {r['k']} of {r['filter_h']} x {r['filter_w']}, "
        f"stride {r['stride_h']} x {r['stride_w']}, pad {r['pad_h']} x {r['pad_w']}{groups}"
    )


def _named(*names: str) -> Callable[[Size], str]:
    return lambda size: " ".join(f"{name} {size.row[name]}" if name[0] != "*" else size.row[name[1:]] for name in names)


_LABELS: Mapping[str, Callable[[Size], str]] = {
    "gemm": _gemm_label,
    "linear": _named("tokens", "inputs", "outputs"),
    "conv": _conv_label,
    "rnn": _named("*type", "hidden", "batch", "timesteps"),
    "sparse_gemm": _named("m", "n", "k", "sparsity"),
    "all_reduce": _named("floats", "processors"),
    "collective": _named("*collective", "elements", "*dtype", "ranks"),
    "grouped_gemm": _named("*network", "*layer", "*pass", "groups", "m", "n_per_group", "k", "*routing"),
    "attention": _named("*network", "*kind", "batch", "heads", "kv_heads", "seq_q", "seq_kv", "head_dim", "causal"),
    "norm": _named("*network", "*kind", "rows", "dim", "*layout"),
    "softmax_loss": _named("*network", "*kind", "rows", "classes"),
    "embedding": _named("*network", "*kind", "num_rows", "dim", "num_indices", "pooling_factor"),
    "optimizer": _named("*network", "*optimizer", "n_params", "n_tensors"),
    "elementwise": _named("*network", "*kind", "elements"),
}


def conv_output(size: Size) -> tuple[int, int]:
    """Height and width of a convolution's output, whole numbers by the formula of every framework."""
    return (
        output_size(size.number("h"), size.number("filter_h"), size.number("stride_h"), size.number("pad_h"), 1),
        output_size(size.number("w"), size.number("filter_w"), size.number("stride_w"), size.number("pad_w"), 1),
    )


def _conv_flops(size: Size) -> float:
    out_h, out_w = conv_output(size)
    weights = size.number("k") * size.number("c") * size.number("filter_h") * size.number("filter_w")
    return 2.0 * size.number("n") * out_h * out_w * weights / int(size.row.get("groups", "1"))


def _product(size: Size, *names: str) -> float:
    result = 2.0
    for name in names:
        result *= size.number(name)
    return result


def group_rows(size: Size) -> list[int]:
    """Rows that each group of a grouped product gets; "skewed" by Zipf's law: the r-th of the groups 1 / r."""
    groups, each = size.number("groups"), size.number("n_per_group")
    if size.row["routing"] != "skewed":
        return [each] * groups
    harmonic = sum(1 / rank for rank in range(1, groups + 1))
    edges = [0.0]
    for rank in range(1, groups + 1):
        edges.append(edges[-1] + groups * each / rank / harmonic)
    whole = [round(edge) for edge in edges]
    return [after - before for before, after in pairwise(whole)]


_FLOPS: Mapping[str, Callable[[Size], float]] = {
    "gemm": lambda size: _product(size, "m", "n", "k") * int(size.row.get("batch_count", "1")),
    "linear": lambda size: _product(size, "tokens", "inputs", "outputs"),
    "conv": _conv_flops,
    "rnn": lambda size: deepbench_flops(
        size.row["type"], size.number("hidden"), size.number("batch"), size.number("timesteps")
    ),
    "sparse_gemm": lambda size: _product(size, "m", "n", "k"),
    "grouped_gemm": lambda size: 2.0 * size.number("m") * size.number("k") * sum(group_rows(size)),
    "attention": lambda size: 2.0 * _product(size, "batch", "heads", "seq_q", "seq_kv", "head_dim"),
}
