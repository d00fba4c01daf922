"""Which layer each event is for: module frames for forward, sequence numbers from there for backward.

Kineto numbers modules by class (`nn.Module: Linear_3`); the path of a layer is the chain of modules round it,
`GPT_0.Block_2.Linear_3`. Attribute names are not in a trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_marks import MODULE, matching
from longpole.analysis.device_work import at, launching
from longpole.analysis.distinct import distinct
from longpole.analysis.tree import inherit
from longpole.trace import Kind, Phase

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.trace import Trace

NO_FRAMES = (
    "Layers are not known: the trace was recorded without with_modules or with_stack; record with "
    "torch.profiler.profile(..., with_modules=True, with_stack=True) to see them."
)


@dataclass(frozen=True, slots=True)
class LayerMap:
    """`of` is the row of `paths` of each event, -1 where none is known; `why` says why there are none."""

    of: NDArray[np.int64]
    paths: list[str]
    types: list[str]
    why: str = ""


def layer_map(trace: Trace, phase: NDArray[np.int64]) -> LayerMap:
    """Layers of all events, given the phase of each; a `why` in place of layers where no frame names them."""
    if len(trace.calls.row):
        return _of_calls(trace, phase)
    frames = matching(trace, MODULE, (Kind.PYTHON,))
    if not len(frames):
        return LayerMap(np.full(len(trace.events), -1, dtype=np.int64), [], [], NO_FRAMES)
    own, paths, types = _paths(trace, frames, phase)
    host = inherit(own, trace.events.parent)
    _by_sequence(trace, host, phase)
    return LayerMap(at(host, launching(trace)), paths, types)


def _of_calls(trace: Trace, phase: NDArray[np.int64]) -> LayerMap:
    """Layers of a live run, which marks the calls of modules by their own paths."""
    own = np.full(len(trace.events), -1, dtype=np.int64)
    own[trace.calls.row] = trace.calls.layer
    host = inherit(own, trace.events.parent)
    _by_sequence(trace, host, phase)
    paths = [layer.path or layer.type or "(model)" for layer in trace.layers]
    types = [layer.type for layer in trace.layers]
    return LayerMap(at(host, launching(trace)), paths, types)


def _paths(
    trace: Trace, frames: NDArray[np.intp], phase: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """The layer of each module frame, -1 elsewhere.

    A name is one module, wherever it runs: recomputed in backward it has no frames round it that tell its path,
    so the path is taken from forward.
    """
    own = np.full(len(trace.events), -1, dtype=np.int64)
    number_of: dict[int, int] = {}
    paths: list[str] = []
    types: list[str] = []
    frames = frames[np.argsort(phase[frames] == Phase.BACKWARD, kind="stable")]
    above = _frames_above(trace, frames)
    for row, up, code in zip(frames.tolist(), above.tolist(), trace.events.name[frames].tolist(), strict=True):
        number = number_of.setdefault(code, len(paths))
        if number == len(paths):
            match = MODULE.search(trace.text(code))
            name = match.group(1).replace(".", "_") if match else "module"
            parent = int(own[up]) if up >= 0 else -1
            paths.append(f"{paths[parent]}.{name}" if parent >= 0 else name)
            types.append(name.rpartition("_")[0] or name)
        own[row] = number
    return own, paths, types


def _frames_above(trace: Trace, frames: NDArray[np.intp]) -> NDArray[np.int64]:
    """For each frame the next frame of `frames` round it, -1 for the outermost."""
    marked = np.full(len(trace.events), -1, dtype=np.int64)
    marked[frames] = frames
    nearest = inherit(marked, trace.events.parent)
    up = trace.events.parent[frames]
    return np.where(up >= 0, nearest[np.maximum(up, 0)], -1)


def _by_sequence(trace: Trace, host: NDArray[np.int64], phase: NDArray[np.int64]) -> None:
    """Gives backward ops the layer of the forward op that made their node; what is inside them follows."""
    events = trace.events
    ops = events.rows_of(Kind.OP)
    numbered = ops[events.sequence[ops] >= 0]
    backward = numbered[(phase[numbered] == Phase.BACKWARD) & (events.forward_thread[numbered] > 0)]
    forward = numbered[(events.forward_thread[numbered] <= 0) & (host[numbered] >= 0)]
    own = np.full(len(events), -1, dtype=np.int64)
    for thread in distinct(events.forward_thread[backward]).tolist():
        mine = backward[events.forward_thread[backward] == thread]
        lane = _best_lane(trace, mine, forward)
        made = forward[events.lane[forward] == lane]
        own[mine] = _layer_of_last(trace, mine, made, host)
    found = inherit(own, events.parent)
    wanting = (host < 0) & (found >= 0)
    host[wanting] = found[wanting]
    _accumulated(trace, host, phase)


def _best_lane(trace: Trace, backward: NDArray[np.intp], forward: NDArray[np.intp]) -> int:
    """The thread whose sequence numbers these nodes carry: the one that has most of them."""
    wanted = trace.events.sequence[backward]
    lanes = distinct(trace.events.lane[forward]).tolist()

    def found(lane: int) -> int:
        made = trace.events.sequence[forward[trace.events.lane[forward] == lane]]
        return int(np.isin(wanted, made).sum())

    return max(lanes, key=found, default=-1)


def _layer_of_last(
    trace: Trace, nodes: NDArray[np.intp], made: NDArray[np.intp], host: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The layer of the last op before each node that has its number: ops read a number that a later one takes."""
    events = trace.events
    if not len(made):
        return np.full(len(nodes), -1, dtype=np.int64)
    order = np.lexsort((events.start_ns[made], events.sequence[made]))
    made = made[order]
    numbers = events.sequence[made]
    past = np.searchsorted(numbers, events.sequence[nodes], side="right") - 1
    present = (past >= 0) & (numbers[np.maximum(past, 0)] == events.sequence[nodes])
    return np.where(present, host[made[np.maximum(past, 0)]], -1)


def _accumulated(trace: Trace, host: NDArray[np.int64], phase: NDArray[np.int64]) -> None:
    """An AccumulateGrad without a number belongs to the layer of the node before it on its thread."""
    events = trace.events
    nodes = np.flatnonzero((events.parent < 0) & (phase == Phase.BACKWARD) & (events.kind == Kind.OP))
    names = [code for code, text in enumerate(trace.strings) if text.endswith("AccumulateGrad")]
    for lane in distinct(events.lane[nodes]).tolist():
        mine = nodes[events.lane[nodes] == lane]
        layer = host[mine]
        known = np.where(layer >= 0, np.arange(len(mine)), 0)
        last = layer[np.maximum.accumulate(known)] if len(mine) else layer
        take = (layer < 0) & np.isin(events.name[mine], names)
        marks = np.full(len(events), -1, dtype=np.int64)
        marks[mine[take]] = last[take]
        found = inherit(marks, events.parent)
        host[(host < 0) & (found >= 0)] = found[(host < 0) & (found >= 0)]
