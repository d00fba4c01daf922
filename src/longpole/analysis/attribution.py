"""Whose is each recorded event of a live run: its step, phase, layer, role and op class.

Works on the steps at Level.OPS, on the training thread's lane, where phase marks, layer marks and Kineto's
ops nest in each other. A layer owns the autograd nodes whose sequence numbers fall into the range of one of
its calls; AccumulateGrad has no number and belongs to the node before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.gap_phases import GapPhases
from longpole.analysis.segments import marks_by_step, segments_of, steps_at
from longpole.analysis.tree import NOTHING, inherit, outermost, self_ns
from longpole.cost.op_classes import classify_op
from longpole.trace import Kind, Level, OpClass, Phase, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from longpole.analysis.segments import Segment
    from longpole.trace import Trace

ENGINE = "autograd::engine::evaluate_function: "
ACCUMULATE = "AccumulateGrad"
LOSSES = (
    "aten::cross_entropy_loss",
    "aten::nll_loss",
    "aten::nll_loss_nd",
    "aten::nll_loss2d",
    "aten::mse_loss",
    "aten::l1_loss",
    "aten::smooth_l1_loss",
    "aten::huber_loss",
    "aten::binary_cross_entropy",
    "aten::binary_cross_entropy_with_logits",
    "aten::kl_div",
    "aten::ctc_loss",
    "aten::soft_margin_loss",
    "aten::margin_ranking_loss",
    "aten::triplet_margin_loss",
    "aten::cosine_embedding_loss",
    "aten::poisson_nll_loss",
    "aten::linear_cross_entropy",
)


@dataclass(frozen=True, slots=True)
class Attribution:
    """A column for each conclusion, as long as the event table; -1 (or NaN) where there is none."""

    rows: NDArray[np.intp]  # the rows that take part
    own_ns: NDArray[np.int64]  # time that is in no child
    step: NDArray[np.int64]  # StepWindow.index
    phase: NDArray[np.int64]
    layer: NDArray[np.int64]  # row of Trace.layers
    role: NDArray[np.int64]
    work: NDArray[np.int64]  # row of the op that the event is part of
    op_class: NDArray[np.int64]
    loss_in_forward: NDArray[np.bool_]  # a loss op among forward work, whose phase became loss
    marked: NDArray[np.bool_]  # is, or lies in, a phase mark; else it lies in a gap between two
    weight_share: NDArray[np.float64]  # in backward: the part that makes weight gradients; NaN: neither


def attribute(trace: Trace) -> Attribution:
    """Attribution of every event on the training lane inside steps at Level.OPS."""
    events = trace.events
    count = len(events)
    step = _steps(trace)
    rows = np.flatnonzero(step >= 0)
    parent = np.where((events.parent >= 0) & (step[np.maximum(events.parent, 0)] == step), events.parent, NOTHING)
    parent = parent.astype(np.int32)
    own = self_ns(events, rows)
    layer_mark = _layer_marks(trace)
    phase, inner_loss = _phases(trace, step, parent)
    nodes = _nodes(trace, rows, parent)
    backward = (phase == Phase.BACKWARD) & (step >= 0)
    recompute = backward & (layer_mark >= 0)
    layer = np.where(backward & ~recompute, _layers_of_nodes(trace, nodes, step), layer_mark)
    share = np.full(count, np.nan)
    gradient = backward & ~recompute & (nodes >= 0)
    share[gradient] = _weight_shares(trace, nodes, step, own, parent)[gradient]
    role = np.select(
        [recompute, share > 0.5, share <= 0.5, np.isin(phase, (Phase.FORWARD, Phase.LOSS)) & (step >= 0)],
        [Role.RECOMPUTE, Role.WEIGHT_GRAD, Role.INPUT_GRAD, Role.FORWARD],
        Role.NONE,
    )
    works, op_class = _works(trace, rows, phase, parent)
    marked = _under_mark(trace, rows)
    return Attribution(rows, own, step, phase, layer, role, works, op_class, inner_loss, marked, share)


def loss_share(attribution: Attribution, *, marked: bool) -> float:
    """The part of forward's time, in its marks or in gaps between marks, that losses take that carry no mark."""
    rows = attribution.rows[attribution.marked[attribution.rows] == marked]
    forward = attribution.own_ns[rows[attribution.phase[rows] == Phase.FORWARD]].sum()
    inside = attribution.own_ns[rows[attribution.loss_in_forward[rows]]].sum()
    return float(inside / max(forward + inside, 1))


def _under_mark(trace: Trace, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    values = np.full(len(trace.events), NOTHING, dtype=np.int64)
    values[rows[trace.events.kind[rows] == Kind.PHASE]] = 1
    return inherit(values, trace.events.parent) == 1


def _steps(trace: Trace) -> NDArray[np.int64]:
    """The step of each event on the training lane, -1 for others."""
    events = trace.events
    found = np.full(len(events), NOTHING, dtype=np.int64)
    marked = events.lane[events.rows_of(Kind.PHASE)]
    lane = int(marked[0]) if len(marked) else NOTHING
    for step in steps_at(trace, Level.OPS):
        first, last = np.searchsorted(events.start_ns, [step.start_ns, step.end_ns])
        found[first:last] = step.index
    found[events.lane != lane] = NOTHING
    return found


def _layer_marks(trace: Trace) -> NDArray[np.int64]:
    """The layer whose call an event happened in."""
    values = np.full(len(trace.events), NOTHING, dtype=np.int64)
    values[trace.calls.row] = trace.calls.layer
    return inherit(values, trace.events.parent)


def _phases(
    trace: Trace, step: NDArray[np.int64], parent: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """By the innermost segment of the step at the event's start; losses inside a model are loss, and told."""
    events = trace.events
    found = np.full(len(events), int(Phase.NOBODY), dtype=np.int64)
    marks = marks_by_step(trace)
    linked = _linked(trace, step)
    sampled = GapPhases(trace, marks)
    for window in steps_at(trace, Level.OPS):
        segments = segments_of(window, marks[window.index])
        here = np.flatnonzero(step == window.index)
        at = np.searchsorted([s.start_ns for s in segments], events.start_ns[here], side="right") - 1
        found[here] = np.array([int(segment.phase) for segment in segments])[np.maximum(at, 0)]
        for mark in marks[window.index]:
            if mark.row >= 0:
                found[mark.row] = mark.phase
        between = np.flatnonzero(found[here] == Phase.NOBODY)
        starts = events.start_ns[here[between]].tolist()
        places = [segments[max(row, 0)] for row in at[between].tolist()]
        gaps = [_gap_phase(segment, start, sampled) for segment, start in zip(places, starts, strict=True)]
        found[here[between]] = np.where(linked[here[between]], Phase.FORWARD, np.array(gaps, dtype=np.int64))
    names = {index for index, name in enumerate(trace.strings) if name in LOSSES}
    losses = outermost(np.isin(events.name, list(names)) & (events.kind == Kind.OP), parent) >= 0
    inner = losses & (found == Phase.FORWARD) & (step >= 0)
    found[inner] = Phase.LOSS
    return found, inner


def _gap_phase(segment: Segment, time_ns: int, sampled: GapPhases) -> int:
    """What work between marks is, where it made no autograd node: what was seen there on other steps.

    Where nothing was, a batch if a forward pass follows.
    """
    if segment.gap is None:
        return int(segment.phase)
    seen = sampled.at(segment.gap, segment.part_at(time_ns))
    if seen is not None:
        return int(seen)
    return int(Phase.DATA if segment.gap[1] in (Phase.FORWARD, Phase.DATA, Phase.TRANSFER) else Phase.OTHER)


def _linked(trace: Trace, step: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether an op made an autograd node that ran in the same step: then it was forward work."""
    events = trace.events
    nodes = _is_node(trace)
    linked = np.zeros(len(events), dtype=bool)
    for window in steps_at(trace, Level.OPS):
        here = step == window.index
        ran = np.unique(events.sequence[here & nodes])
        linked |= here & ~nodes & (events.sequence >= 0) & np.isin(events.sequence, ran)
    top = outermost(linked, events.parent)
    return top >= 0


def _is_node(trace: Trace) -> NDArray[np.bool_]:
    names = np.array([name.startswith(ENGINE) for name in trace.strings], dtype=bool)
    return names[trace.events.name] & (trace.events.kind == Kind.OP)


def _nodes(trace: Trace, rows: NDArray[np.intp], parent: NDArray[np.int32]) -> NDArray[np.int64]:
    """The row of the autograd engine's call round each event, the innermost; -1 outside."""
    is_node = _is_node(trace)
    own = np.where(is_node, np.arange(len(is_node)), NOTHING)
    inside = np.zeros(len(is_node), dtype=bool)
    inside[rows] = True
    return np.where(inside, inherit(own, parent), NOTHING)


def _layers_of_nodes(trace: Trace, nodes: NDArray[np.int64], step: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each event in backward the layer whose forward made its node."""
    layer_of_node = np.full(len(trace.events), NOTHING, dtype=np.int64)
    calls_step = step[trace.calls.row] if len(trace.calls.row) else np.empty(0, np.int64)
    for window in steps_at(trace, Level.OPS):
        calls = np.flatnonzero(calls_step == window.index)
        here = np.unique(nodes[(step == window.index) & (nodes >= 0)])
        owners = _owners(trace, calls, np.unique(trace.events.sequence[here]))
        previous = NOTHING
        for node in here.tolist():
            sequence = int(trace.events.sequence[node])
            if sequence >= 0:
                previous = owners.get(sequence, NOTHING)
            layer_of_node[node] = previous
    return np.where(nodes >= 0, layer_of_node[np.maximum(nodes, 0)], NOTHING)


def _owners(trace: Trace, calls: NDArray[np.intp], sequences: NDArray[np.int64]) -> Mapping[int, int]:
    """Sequence number -> layer, for these numbers in ascending order.

    Outer calls are painted first, so that the innermost is seen.
    """
    painted = np.full(len(sequences), NOTHING, dtype=np.int64)
    first = np.searchsorted(sequences, trace.calls.first[calls])
    last = np.searchsorted(sequences, trace.calls.last[calls])
    spans = trace.calls.last[calls] - trace.calls.first[calls]
    for call in np.argsort(-spans, kind="stable").tolist():
        painted[first[call] : last[call]] = trace.calls.layer[calls[call]]
    return dict(zip(sequences.tolist(), painted.tolist(), strict=True))


def _weight_shares(
    trace: Trace, nodes: NDArray[np.int64], step: NDArray[np.int64], own: NDArray[np.int64], parent: NDArray[np.int32]
) -> NDArray[np.float64]:
    """The part of each event in backward that makes weight gradients.

    Ops have it from the steps that saw their tensors; what is inside an op follows it; the engine's and the
    dispatcher's own time in a node is divided as the node's ops are.
    """
    known = _recorded_shares(trace, nodes, step)
    index = np.where(np.isnan(known), NOTHING, np.arange(len(known)))
    source = inherit(index, parent)
    share = np.where(source >= 0, known[np.maximum(source, 0)], np.nan)
    inside = nodes >= 0
    filled = inside & ~np.isnan(share)
    total = np.zeros(len(share))
    weight = np.zeros(len(share))
    np.add.at(total, nodes[filled], own[filled])
    np.add.at(weight, nodes[filled], own[filled] * share[filled])
    by_node = np.divide(weight, total, out=_defaults(trace), where=total > 0)
    return np.where(inside & np.isnan(share), by_node[np.maximum(nodes, 0)], share)


def _defaults(trace: Trace) -> NDArray[np.float64]:
    """For nodes in which no op was recognised: accumulating is the weight's, the rest the input's."""
    to_weight = np.array([ACCUMULATE in name for name in trace.strings], dtype=float)
    return to_weight[trace.events.name]


def _recorded_shares(trace: Trace, nodes: NDArray[np.int64], step: NDArray[np.int64]) -> NDArray[np.float64]:
    events, gradients = trace.events, trace.gradients
    known = np.full(len(events), np.nan)
    first = {window.index: window.first_sequence for window in trace.steps}
    shares: dict[tuple[int, int, int], list[float]] = {}
    for key in range(len(gradients.sequence)):
        place = (int(gradients.sequence[key]), int(gradients.op[key]), int(gradients.ordinal[key]))
        shares.setdefault(place, []).append(float(gradients.weight_share[key]))
    candidates = np.flatnonzero((nodes >= 0) & (events.kind == Kind.OP))
    seen: dict[tuple[int, int], int] = {}
    names = set(gradients.op.tolist())
    for row in candidates.tolist():
        name = int(events.name[row])
        if name not in names or int(events.name[max(int(events.parent[row]), 0)]) == name:
            continue
        node = int(nodes[row])
        ordinal = seen[node, name] = seen.get((node, name), -1) + 1
        place = (int(events.sequence[node]) - first[int(step[row])], name, ordinal)
        if place in shares:
            known[row] = float(np.mean(shares[place]))
    return known


def _works(
    trace: Trace, rows: NDArray[np.intp], phase: NDArray[np.int64], parent: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The op that each event is part of (its outermost op that does work, -1 for none), and its class.

    What an op calls is its own doing: the bias that `addmm` copies is matmul. What is no op's doing is the
    host's; work in the optimizer is the optimizer's.
    """
    events = trace.events
    by_name = np.array([_class_of(name) for name in trace.strings], dtype=np.int64)
    own = np.full(len(events), int(OpClass.HOST), dtype=np.int64)
    ops = rows[events.kind[rows] == Kind.OP]
    own[ops] = by_name[events.name[ops]]
    works = outermost((own != OpClass.HOST) & (own != OpClass.UNCLASSIFIED), parent)
    inside = np.zeros(len(events), dtype=bool)
    inside[rows] = True
    works = np.where(inside, np.where((works < 0) & (own == OpClass.UNCLASSIFIED), np.arange(len(own)), works), NOTHING)
    found = np.where(works >= 0, own[np.maximum(works, 0)], int(OpClass.HOST))
    found[(works >= 0) & (phase == Phase.OPTIMIZER)] = OpClass.OPTIMIZER
    return works, found


def _class_of(name: str) -> OpClass:
    found = classify_op(name)
    if found is not None:
        return found
    # Without a namespace it is a Python class: an autograd.Function of the user's, whose own time is Python's.
    return OpClass.UNCLASSIFIED if "::" in name else OpClass.HOST
