"""The time of one rank's steps as a list of parts that sum to the step: what every table of a study is summed from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_exclusive import COMMUNICATION, Pieces, exclusive
from longpole.analysis.device_gaps import Cause
from longpole.trace import OpClass, Phase, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from longpole.analysis.device_attribution import Attribution
    from longpole.analysis.device_gaps import Gaps
    from longpole.trace import Trace

Window = tuple[int, int]
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
class Part:
    """Time of the mean step that belongs to one thing alone."""

    phase: Phase
    role: Role
    op_class: OpClass
    op: str  # of the host op, else of the device work; the cause of idleness
    layer: str | None
    site: str  # the user's line or range; "" where not known
    shapes: str | None
    ms: float
    calls: float
    early: bool = False  # launched before the recording began: what it is for is not known


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
    """Parts of the mean of the windows; they sum to the mean length of the windows.

    Without `gaps` (no device), time that no piece covers is host time that nothing was recorded of.
    """
    inside = exclusive(pieces, windows)
    which = np.concatenate([rows for rows, _ in inside]) if inside else np.empty(0, dtype=np.intp)
    alone = np.concatenate([ns for _, ns in inside]) if inside else np.empty(0, dtype=np.int64)
    rows = pieces.row[which]
    parts = _grouped(trace, found, rows, alone, len(windows))
    if gaps is None:
        missing = sum(high - low for low, high in windows) - int(alone.sum())
        return [*parts, _silence(missing, len(windows))] if missing > 0 else parts
    return parts + _idle(found, gaps, windows)


def _grouped(
    trace: Trace, found: Attribution, rows: NDArray[np.int64], alone: NDArray[np.int64], steps: int
) -> list[Part]:
    """One part for each different combination of what is known of the rows."""
    columns = [
        found.phase,
        found.role,
        found.op_class,
        found.op_name,
        found.layer,
        found.site,
        found.shapes,
        found.early,
    ]
    key = np.zeros(len(rows), dtype=np.int64)
    for column in columns:
        values, code = np.unique(column[rows].astype(np.int64), return_inverse=True)
        _, key = np.unique(key * (len(values) + 1) + code.reshape(-1), return_inverse=True)
        key = key.reshape(-1)
    groups = int(key.max()) + 1 if len(key) else 0
    sample = np.zeros(groups, dtype=np.int64)
    sample[key] = rows
    sums = np.zeros(groups, dtype=np.int64)
    np.add.at(sums, key, alone)
    counts = np.bincount(key, minlength=groups)
    return [
        replace(_described(trace, found, row), ms=ns / 1e6 / steps, calls=calls / steps)
        for row, ns, calls in zip(sample.tolist(), sums.tolist(), counts.tolist(), strict=True)
    ]


def _described(trace: Trace, found: Attribution, row: int) -> Part:
    layer, site, shapes = int(found.layer[row]), int(found.site[row]), int(found.shapes[row])
    return Part(
        phase=Phase(int(found.phase[row])),
        role=Role(int(found.role[row])),
        op_class=OpClass(int(found.op_class[row])),
        op=trace.text(int(found.op_name[row])),
        layer=found.layers[layer] if layer >= 0 else None,
        site=found.sites[site] if site >= 0 else "",
        shapes=trace.text(shapes) or None,
        ms=0.0,
        calls=0.0,
        early=bool(found.early[row]),
    )


def _silence(ns: int, steps: int) -> Part:
    site = "nothing was recorded: Python, or a wait"
    return Part(Phase.OTHER, Role.NONE, OpClass.HOST, "(no op)", None, site, None, ns / 1e6 / steps, 0.0)


def _idle(found: Attribution, gaps: Gaps, windows: Sequence[Window]) -> list[Part]:
    """Idleness by cause and by the phase in which the work was that came too late."""
    late = np.where(gaps.ends_with >= 0, found.phase[np.maximum(gaps.ends_with, 0)], int(Phase.NOBODY))
    late = late if len(gaps.ends_with) else np.empty(0, dtype=np.int64)
    sums: dict[tuple[int, int], list[float]] = {}
    for low, high in windows:
        inside = np.minimum(gaps.end_ns, high) - np.maximum(gaps.start_ns, low)
        for index in np.flatnonzero(inside > 0).tolist():
            entry = sums.setdefault((int(gaps.cause[index]), int(late[index])), [0.0, 0.0])
            entry[0] += float(inside[index])
            entry[1] += 1.0
    return [
        idle_part(Cause(cause), Phase(phase), ns / 1e6 / len(windows), calls / len(windows))
        for (cause, phase), (ns, calls) in sums.items()
    ]


def idle_part(cause: Cause, late: Phase, ms: float, calls: float) -> Part:
    """Idleness is phase `data` where the host fetched data, else `idle`; `late` is what the device waited to do."""
    phase = Phase.DATA if cause is Cause.DATA else Phase.IDLE
    before = f" before {late.name.lower()}" if late is not Phase.NOBODY else ""
    return Part(phase, Role.NONE, OpClass.HOST, f"(idle: {CAUSE_NAMES[cause]})", None, before.strip(), None, ms, calls)


def communication_total(pieces: Pieces, windows: Sequence[Window]) -> float:
    """Milliseconds of the mean window with communication, hidden or not."""
    talking = np.flatnonzero(pieces.precedence == COMMUNICATION)
    only = Pieces(pieces.row[talking], pieces.start_ns[talking], pieces.end_ns[talking], pieces.precedence[talking])
    return sum(int(ns.sum()) for _, ns in exclusive(only, windows)) / 1e6 / max(len(windows), 1)


def merged(ranks: Sequence[Whole]) -> Whole:
    """The mean over ranks: parts of each, weighed alike."""
    count = len(ranks)
    if count == 1:
        return ranks[0]
    sums: dict[Part, list[float]] = {}
    for part in _all(ranks):
        entry = sums.setdefault(replace(part, ms=0.0, calls=0.0), [0.0, 0.0])
        entry[0] += part.ms / count
        entry[1] += part.calls / count
    parts = [replace(part, ms=ms, calls=calls) for part, (ms, calls) in sums.items()]
    return Whole(
        parts=parts,
        step_ms=sum(rank.step_ms for rank in ranks) / count,
        communication_ms=sum(rank.communication_ms for rank in ranks) / count,
        has_device=any(rank.has_device for rank in ranks),
    )


def _all(ranks: Iterable[Whole]) -> Iterable[Part]:
    for rank in ranks:
        yield from rank.parts
