"""Gives each instant to exactly one event, so that sums over events are sums of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.communication_names import is_communication, is_custom_communication
from longpole.analysis.distinct import distinct
from longpole.analysis.intervals import Intervals, union
from longpole.trace import DEVICE_WORK, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from longpole.trace import Trace

# In order of precedence: a copy hides no communication, and kernels of a framework's own that communicate (they
# count as compute in a timeline) hide none of what only computes.
COMPUTE, CUSTOM, COMMUNICATION, COPY = 0, 1, 2, 3
PRECEDENCES = 4


@dataclass(frozen=True, slots=True)
class Pieces:
    """Stretches of time that belong to a row of the event table each, sorted by start; they may overlap."""

    row: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    precedence: NDArray[np.int8]  # the smaller wins where pieces overlap


def device_pieces(trace: Trace) -> Pieces:
    """Work of all devices and streams: compute before custom communication before communication before copies."""
    events = trace.events
    rows = events.rows_of(*DEVICE_WORK)
    precedence = np.where(events.kind[rows] == Kind.KERNEL, COMPUTE, COPY).astype(np.int8)
    names = events.name[rows]
    computing = precedence == COMPUTE
    for sort, test in ((COMMUNICATION, is_communication), (CUSTOM, is_custom_communication)):
        talking = [code for code in distinct(names[computing]) if test(trace.text(int(code)))]
        precedence[np.isin(names, talking) & computing] = sort
    return Pieces(rows.astype(np.int64), events.start_ns[rows], events.end_ns[rows], precedence)


def measure_before(intervals: Intervals, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Nanoseconds of the set before each time."""
    start, end = intervals
    if not len(start):
        return np.zeros(len(times), dtype=np.int64)
    sums = np.r_[np.int64(0), np.cumsum(end - start)]
    place = np.searchsorted(start, times, side="right")
    beyond = np.maximum(end[np.maximum(place - 1, 0)] - times, 0)
    return sums[place] - np.where(place > 0, beyond, 0)


def measure_between(intervals: Intervals, start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """Nanoseconds of the set inside each [start, end)."""
    return measure_before(intervals, end) - measure_before(intervals, start)


def exclusive(pieces: Pieces, windows: Sequence[tuple[int, int]]) -> list[tuple[NDArray[np.intp], NDArray[np.int64]]]:
    """For each window the pieces in it and the nanoseconds that each alone has.

    Each instant goes to the piece of smallest precedence there, of these to the one that started first: the
    nanoseconds of a window sum to the union of its pieces.
    """
    reach = np.maximum.accumulate(pieces.end_ns) if len(pieces.end_ns) else pieces.end_ns
    found: list[tuple[NDArray[np.intp], NDArray[np.int64]]] = []
    for low, high in windows:
        first = int(np.searchsorted(reach, low, side="right"))
        last = int(np.searchsorted(pieces.start_ns, high, side="left"))
        inside = np.arange(first, max(last, first))
        inside = inside[pieces.end_ns[inside] > low]
        found.append((inside, _shares(pieces, inside, low, high)))
    return found


def _shares(pieces: Pieces, inside: NDArray[np.intp], low: int, high: int) -> NDArray[np.int64]:
    start = np.maximum(pieces.start_ns[inside], low)
    end = np.minimum(pieces.end_ns[inside], high)
    alone = np.zeros(len(inside), dtype=np.int64)
    above: Intervals = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    for precedence in range(PRECEDENCES):
        mine = np.flatnonzero(pieces.precedence[inside] == precedence)
        if not len(mine):
            continue
        reach = np.r_[np.int64(low), np.maximum.accumulate(end[mine])[:-1]]
        fresh_from = np.minimum(np.maximum(start[mine], reach), np.maximum(end[mine], start[mine]))
        fresh_to = np.maximum(end[mine], fresh_from)
        alone[mine] = fresh_to - fresh_from - measure_between(above, fresh_from, fresh_to)
        above = union(np.r_[above[0], start[mine]], np.r_[above[1], end[mine]])
    return alone
