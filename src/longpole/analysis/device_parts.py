"""The time of one rank's steps as a list of parts that sum to the step: what every table of a study is summed from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.analysis.device_costs import work_costs
from longpole.analysis.device_exclusive import COMMUNICATION, Pieces, exclusive
from longpole.analysis.device_gaps import Cause
from longpole.analysis.device_launches import Launched
from longpole.analysis.device_tree import OF_FRAMEWORK
from longpole.analysis.distinct import distinct_with_inverse
from longpole.trace import OpClass, Phase, Role, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from longpole.analysis.device_attribution import Attribution
    from longpole.analysis.device_costs import WorkCosts
    from longpole.analysis.device_gaps import Gaps
    from longpole.trace import Trace

Window = tuple[int, int]
BRIEF_NS = 1_000_000  # from one op to the next inside a phase: calling modules takes less
CAUSE_NAMES = {
    Cause.DATA: "data",
    Cause.COLLECTIVE: "collective",
    Cause.SYNCHRONIZATION: "synchronization",
    Cause.LAUNCH: "launch",
    Cause.HOST: "host",
    Cause.STREAM: "stream",
    Cause.DEVICE: "device",
    Cause.UNKNOWN: "not known",
}


@dataclass(frozen=True, slots=True)
class PartCosts:
    """Sums over what is known, in the mean step."""

    flops: float = 0.0
    bytes_moved: float = 0.0
    bound_ms: float = 0.0
    known_ms: float = 0.0  # of the part's time, by work with FLOPs and bytes
    bounded_ms: float = 0.0  # by work with a bound


NO_COSTS = PartCosts()


@dataclass(frozen=True, slots=True)
class Part:
    """Time that belongs to one thing alone."""

    phase: Phase
    role: Role
    op_class: OpClass
    op: str  # of the host op, else of the device work; the cause of idleness in brackets
    layer: str | None
    site: str  # the user's line or range; "" where not known
    shapes: str | None
    launched: Launched
    by_step: NDArray[np.float64] = field(compare=False)  # ms in each step
    calls: float = field(default=0.0, compare=False)  # in the mean step
    costs: PartCosts = field(default=NO_COSTS, compare=False)

    @property
    def ms(self) -> float:
        """Of the mean step."""
        return float(self.by_step.mean())


@dataclass(frozen=True, slots=True)
class _Weights:
    """Of each piece in each window: its time alone there, which window, and its length inside."""

    alone_ns: NDArray[np.int64]
    step: NDArray[np.intp]
    steps: int
    inside_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Whole:
    """Parts of the mean step, which sum to it, and what is known beside them."""

    parts: list[Part]
    step_ms: float
    communication_ms: float  # hidden behind compute or not
    has_device: bool


def parts_of(
    trace: Trace, pieces: Pieces, found: Attribution, windows: Sequence[Window], gaps: Gaps | None
) -> list[Part]:
    """Parts of the windows; in each window they sum to its length.

    Without `gaps` (no device), time that no piece covers is host time that nothing was recorded of.
    """
    inside = exclusive(pieces, windows)
    which = np.concatenate([rows for rows, _ in inside])
    alone = np.concatenate([ns for _, ns in inside])
    step = np.repeat(np.arange(len(windows)), [len(rows) for rows, _ in inside])
    phase = found.phase[pieces.row] if gaps is not None else python_phases(trace, found, pieces)
    costs = work_costs(trace) if gaps is not None else None
    low, high = (np.array(edge, dtype=np.int64)[step] for edge in zip(*windows, strict=True))
    inside_ns = np.minimum(pieces.end_ns[which], high) - np.maximum(pieces.start_ns[which], low)
    weights = _Weights(alone, step, len(windows), inside_ns)
    parts = _grouped(trace, found, (pieces.row[which], phase[which]), weights, costs)
    if gaps is not None:
        return parts + _idle(found, gaps, windows)
    silent = np.array([high - low - int(ns.sum()) for (low, high), (_, ns) in zip(windows, inside, strict=True)])
    return [*parts, _silence(silent)] if silent.any() else parts


def _grouped(
    trace: Trace,
    found: Attribution,
    which: tuple[NDArray[np.int64], NDArray[np.int8]],
    weights: _Weights,
    costs: WorkCosts | None,
) -> list[Part]:
    """One part for each different combination of what is known of the rows; `which` are rows and their phases."""
    rows, phase = which
    alone, step, steps = weights.alone_ns, weights.step, weights.steps
    key = np.zeros(len(rows), dtype=np.int64)
    for column in (phase, *(told[rows] for told in _told(found))):
        values, code = distinct_with_inverse(column.astype(np.int64))
        _, key = distinct_with_inverse(key * (len(values) + 1) + code)
        key = key.reshape(-1)
    groups = int(key.max()) + 1 if len(key) else 0
    sample, sample_phase = np.zeros(groups, dtype=np.int64), np.zeros(groups, dtype=np.int64)
    sample[key], sample_phase[key] = rows, phase
    sums = np.bincount(key * steps + step, weights=alone, minlength=groups * steps).reshape(groups, steps) / 1e6
    counts = np.bincount(key, minlength=groups) / steps
    described = [
        _described(trace, found, int(row), Phase(int(sample_phase[index])), sums[index], float(counts[index]))
        for index, row in enumerate(sample)
    ]
    return _with_costs(described, key, costs, trace.events.duration_ns, rows, weights) if costs else described


def _with_costs(
    parts: list[Part],
    key: NDArray[np.int64],
    costs: WorkCosts,
    duration_ns: NDArray[np.int64],
    rows: NDArray[np.int64],
    weights: _Weights,
) -> list[Part]:
    """The parts with the costs of the pieces in each; `key` is the part of each piece.

    Work counts by what of it is inside the window, its bound by the time that it has alone.
    """
    duration = np.maximum(duration_ns[rows], 1)
    inside, alone = weights.inside_ns / duration, weights.alone_ns / duration
    known, bounded = np.isfinite(costs.flops[rows]), np.isfinite(costs.bound_ms[rows])

    def summed(values: NDArray[np.float64]) -> list[float]:
        return (np.bincount(key, weights=np.nan_to_num(values), minlength=len(parts)) / weights.steps).tolist()

    columns = (
        summed(costs.flops[rows] * inside),
        summed(costs.bytes_moved[rows] * inside),
        summed(costs.bound_ms[rows] * alone),
        summed(known * weights.alone_ns / 1e6),
        summed(bounded * weights.alone_ns / 1e6),
    )
    return [replace(part, costs=PartCosts(*one)) for part, one in zip(parts, zip(*columns, strict=True), strict=True)]


def python_phases(trace: Trace, found: Attribution, pieces: Pieces) -> NDArray[np.int8]:
    """The phase of each piece of the host; Python between two pieces of one phase belongs to that phase.

    A range round the whole step has no phase of its own, and what it does between ops is one phase here and
    another there. Longer pauses in forward stay with nobody: that is no module calling the next.
    """
    phase = found.phase[pieces.row]
    open_ = phase == Phase.OTHER
    known = np.flatnonzero(~open_)
    brief = pieces.end_ns - pieces.start_ns <= BRIEF_NS
    between = np.flatnonzero(open_ & ~np.isin(trace.events.kind[pieces.row], OF_FRAMEWORK))
    if len(known):
        place = np.searchsorted(known, between)
        before, after = known[np.maximum(place - 1, 0)], known[np.minimum(place, len(known) - 1)]
        same = (place > 0) & (place < len(known)) & (phase[before] == phase[after])
        same &= brief[between] | (phase[before] == Phase.BACKWARD)  # the engine goes from node to node by itself
        phase[between[same]] = phase[before[same]]
    return phase


def _told(found: Attribution) -> list[NDArray[Any]]:
    """What parts are told apart by, beside their phase."""
    return [
        found.role,
        found.op_class,
        found.op_name,
        found.layer,
        found.site,
        found.shapes,
        found.launched,
    ]


def _described(
    trace: Trace, found: Attribution, row: int, phase: Phase, by_step: NDArray[np.float64], calls: float
) -> Part:
    layer, site = int(found.layer[row]), int(found.site[row])
    return Part(
        phase=phase,
        role=Role(int(found.role[row])),
        op_class=OpClass(int(found.op_class[row])),
        op=trace.text(int(found.op_name[row])),
        layer=found.layers[layer] if layer >= 0 else None,
        site=found.sites[site] if site >= 0 else "",
        shapes=trace.text(int(found.shapes[row])) or None,
        launched=Launched(int(found.launched[row])),
        by_step=by_step,
        calls=calls,
    )


def _silence(ns: NDArray[np.int64]) -> Part:
    site = "nothing was recorded: Python, or a wait"
    return Part(
        Phase.OTHER, Role.NONE, OpClass.HOST, "(no op)", None, site, None, Launched.KNOWN, ns.astype(np.float64) / 1e6
    )


def _idle(found: Attribution, gaps: Gaps, windows: Sequence[Window]) -> list[Part]:
    """Idleness by cause and by the phase in which the work was that came too late."""
    if not len(gaps.start_ns):
        return []
    late = np.where(gaps.ends_with >= 0, found.phase[np.maximum(gaps.ends_with, 0)], int(Phase.NOBODY))
    key = gaps.cause.astype(np.int64) * len(Phase) + late
    sums = np.zeros((len(Cause) * len(Phase), len(windows)))
    counts = np.zeros(len(sums))
    for step, (low, high) in enumerate(windows):
        here = slice(np.searchsorted(gaps.end_ns, low), np.searchsorted(gaps.start_ns, high))
        inside = np.maximum(np.minimum(gaps.end_ns[here], high) - np.maximum(gaps.start_ns[here], low), 0)
        sums[:, step] = np.bincount(key[here], weights=inside, minlength=len(sums)) / 1e6
        counts += np.bincount(key[here], weights=inside > 0, minlength=len(sums)) / len(windows)
    return [
        _idle_part(Cause(one // len(Phase)), Phase(one % len(Phase)), sums[one], float(counts[one]))
        for one in np.flatnonzero(counts).tolist()
    ]


def _idle_part(cause: Cause, late: Phase, by_step: NDArray[np.float64], calls: float) -> Part:
    """Idleness is phase `data` where the host fetched data, else `idle`; `late` is what the device waited to do."""
    phase = Phase.DATA if cause is Cause.DATA else Phase.IDLE
    named = late not in (Phase.NOBODY, Phase.OTHER)
    return Part(
        phase=phase,
        role=Role.NONE,
        op_class=OpClass.HOST,
        op=f"(idle: {CAUSE_NAMES[cause]})",
        layer=None,
        site=f"before {label(late)}" if named else "",
        shapes=None,
        launched=Launched.KNOWN,
        by_step=by_step,
        calls=calls,
    )


def communication_total(pieces: Pieces, windows: Sequence[Window]) -> float:
    """Milliseconds of the mean window with communication, hidden or not."""
    talking = np.flatnonzero(pieces.precedence == COMMUNICATION)
    only = Pieces(pieces.row[talking], pieces.start_ns[talking], pieces.end_ns[talking], pieces.precedence[talking])
    return sum(int(ns.sum()) for _, ns in exclusive(only, windows)) / 1e6 / max(len(windows), 1)


def sum_of_costs(costs: Sequence[PartCosts], divided_by: int = 1) -> PartCosts:
    names = ("flops", "bytes_moved", "bound_ms", "known_ms", "bounded_ms")
    return PartCosts(*(sum(getattr(one, name) for one in costs) / divided_by for name in names))


def merged(ranks: Sequence[Whole]) -> Whole:
    """The mean over ranks: parts of each, weighed alike. Steps are kept apart where all ranks have as many."""
    count = len(ranks)
    if count == 1:
        return ranks[0]
    steps = {len(part.by_step) for rank in ranks for part in rank.parts}
    sums: dict[Part, list[tuple[NDArray[np.float64], float, PartCosts]]] = {}
    for rank in ranks:
        for part in rank.parts:
            by_step = part.by_step if len(steps) == 1 else np.array([part.ms])
            sums.setdefault(part, []).append((by_step / count, part.calls / count, part.costs))
    parts = [
        replace(
            part,
            by_step=sum((ms for ms, _, _ in found[1:]), start=found[0][0]),
            calls=sum(calls for _, calls, _ in found),
            costs=sum_of_costs([costs for _, _, costs in found], count),
        )
        for part, found in sums.items()
    ]
    return Whole(
        parts=parts,
        step_ms=sum(rank.step_ms for rank in ranks) / count,
        communication_ms=sum(rank.communication_ms for rank in ranks) / count,
        has_device=any(rank.has_device for rank in ranks),
    )
