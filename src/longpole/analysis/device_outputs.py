"""Shapes of what convolutions made, for traces that keep no strides: the calls of their backward passes name them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.cost.convolution import FORWARD_OPS, ONE_GRADIENT_OPS
from longpole.trace import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from longpole.trace import Trace

    Shape = tuple[int, ...]
    Places = tuple[int, int, int]
    Made = Mapping[tuple[Shape, Shape], Shape]

# Where (input, gradient of the output, weight) are among the inputs: native_functions.yaml of torch 1.8 and 2.13.
BACKWARD: Mapping[str, Places] = {
    "aten::cudnn_convolution_backward": (0, 1, 2),
    "aten::miopen_convolution_backward": (0, 1, 2),
    "aten::mkldnn_convolution_backward": (0, 1, 2),
    "aten::convolution_backward": (1, 0, 2),
}


def call_around(trace: Trace) -> NDArray[np.int64]:
    """For each call of one gradient the row of the call round it, which is told both tensors; -1 for all others."""
    events = trace.events
    mine = _named(trace, ONE_GRADIENT_OPS)
    mine = mine[events.parent[mine] >= 0]
    around = events.parent[mine]
    is_whole = np.isin(around, _named(trace, BACKWARD.keys())) & (events.shapes[around] >= 0)
    found = np.full(len(events), -1, dtype=np.int64)
    found[mine[is_whole]] = around[is_whole]
    return found


def made_by(trace: Trace) -> Made:
    """(shape of input, of weight) -> shape of output, of convolutions that are differentiated; where it is one."""
    found: dict[tuple[Shape, Shape], set[Shape]] = {}
    rows = _named(trace, BACKWARD.keys())
    names, shapes = trace.events.name[rows], trace.events.shapes[rows]
    for name, code in np.unique(np.stack([names, shapes], axis=1)[shapes >= 0], axis=0).tolist():
        x, dy, weight = _three(trace, code, BACKWARD[trace.text(name)])
        if x and dy and weight:
            found.setdefault((x, weight), set()).add(dy)
    return {key: next(iter(made)) for key, made in found.items() if len(made) == 1}


def output_of(trace: Trace, row: int, made: Made, around: int) -> Shape | None:
    """The shape of what a convolution or one of its gradients makes; None where the trace does not say."""
    name, shapes = trace.name_of(row), int(trace.events.shapes[row])
    if around >= 0:
        x, _, weight = _three(trace, int(trace.events.shapes[around]), BACKWARD[trace.name_of(around)])
        return (weight if "weight" in name else x) or None
    if name not in FORWARD_OPS or shapes < 0:
        return None
    x, weight, _ = _three(trace, shapes, (0, 1, 1))
    return made.get((x, weight))


def _named(trace: Trace, names: Collection[str]) -> NDArray[np.intp]:
    """Ops of these names."""
    rows = trace.events.rows_of(Kind.OP)
    codes = [code for code, text in enumerate(trace.strings) if text in names]
    return rows[np.isin(trace.events.name[rows], codes)] if codes else rows[:0]


def _three(trace: Trace, code: int, places: Places) -> tuple[Shape, Shape, Shape]:
    """The shapes at these places; () where there is none."""
    text = trace.text(code)
    listed: list[Any] = json.loads(text) if text.startswith("[") else []
    one, other, third = (_shape(listed[place]) if place < len(listed) else () for place in places)
    return one, other, third


def _shape(found: Any) -> Shape:
    fits = isinstance(found, list) and all(isinstance(size, int) and size >= 0 for size in found)
    return tuple(found) if fits else ()
