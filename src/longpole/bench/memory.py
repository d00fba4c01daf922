"""How much memory a size needs, so that one that does not fit is skipped with the reason and nothing is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from longpole.bench.suites import Size, conv_output, group_rows
from longpole.cost.recurrent import GATES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ROOM = 0.85  # of what is available: the rest is for packing, checks in float64 and others


def _gemm(size: Size) -> float:
    m, n, k = (size.number(name) for name in "mnk")
    return (m * n + n * k + k * m) * int(size.row.get("batch_count", "1"))


def _linear(size: Size) -> float:
    tokens, inputs, outputs = (size.number(name) for name in ("tokens", "inputs", "outputs"))
    return 2.0 * (tokens * inputs + inputs * outputs + tokens * outputs)


def _conv(size: Size) -> float:
    out_h, out_w = conv_output(size)
    x = size.number("n") * size.number("c") * size.number("h") * size.number("w")
    y = size.number("n") * size.number("k") * out_h * out_w
    # float64 copies of the whole input are made to check a weight gradient
    return (
        4.0 * x
        + 2.0 * y
        + 2.0 * size.number("k") * size.number("c") * size.number("filter_h") * size.number("filter_w")
    )


def _rnn(size: Size) -> float:
    hidden, batch, steps = (size.number(name) for name in ("hidden", "batch", "timesteps"))
    gates = GATES[size.row["type"]]
    # Training keeps gates, activations and sums of every step (measured: 12, 29 and 34 numbers for 1, 3 and 4 gates),
    # and weights, their gradients and both in float64, of the input and of the state.
    return steps * batch * hidden * (8.0 * gates + 6) + 20.0 * gates * hidden * hidden


def _attention(size: Size) -> float:
    queries = size.number("batch") * size.number("heads") * size.number("seq_q") * size.number("head_dim")
    keys = size.number("batch") * size.number("heads") * size.number("seq_kv") * size.number("head_dim")
    return 5.0 * queries + 6.0 * keys


_ELEMENTS: Mapping[str, Callable[[Size], float]] = {
    "gemm": _gemm,
    "linear": _linear,
    "conv": _conv,
    "rnn": _rnn,
    "sparse_gemm": lambda size: 2.0 * _gemm(size),
    "grouped_gemm": lambda size: (
        size.number("groups") * size.number("m") * size.number("k")
        + sum(group_rows(size)) * (size.number("m") + size.number("k"))
    ),
    "attention": _attention,
    "norm": lambda size: 5.0 * size.number("rows") * size.number("dim"),
    "softmax_loss": lambda size: 5.0 * size.number("rows") * size.number("classes"),
    "embedding": lambda size: 2.5 * size.number("num_rows") * size.number("dim"),
    "optimizer": lambda size: 8.0 * size.number("n_params"),
    "elementwise": lambda size: 6.0 * size.number("elements"),
}


def bytes_needed(size: Size, bytes_each: int) -> float:
    """An estimate from above; random numbers are drawn in float32 before they are converted."""
    return _ELEMENTS[size.op](size) * max(4, bytes_each)


def too_large(size: Size, bytes_each: int, available: float | None = None) -> str | None:
    """The reason a size does not fit, or None."""
    room = (psutil.virtual_memory().available if available is None else available) * _ROOM
    needed = bytes_needed(size, bytes_each)
    return None if needed <= room else f"needs {needed / 2**30:.1f} GiB, {room / 2**30:.1f} GiB are free for it"
