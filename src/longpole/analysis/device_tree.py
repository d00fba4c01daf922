"""The call tree of host threads: what the events round an event say, and who was busy at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_exclusive import Pieces
from longpole.analysis.tree import inherit
from longpole.trace import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.trace import Trace

NESTED = (Kind.OP, Kind.RUNTIME, Kind.ANNOTATION, Kind.PYTHON, Kind.PHASE, Kind.LAYER, Kind.COLLECTIVE)
RANGES = (Kind.ANNOTATION, Kind.PHASE, Kind.LAYER)
OF_FRAMEWORK = (Kind.OP, Kind.RUNTIME, Kind.COLLECTIVE)


def nearest(trace: Trace, is_wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each row the row of the nearest wanted event round it, itself included; -1 where there is none."""
    own = np.where(is_wanted, np.arange(len(is_wanted), dtype=np.int64), -1)
    return inherit(own, trace.events.parent)


def innermost_at(trace: Trace, lane: int, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each time the row of the innermost event open on a host lane then; -1 where none is."""
    events = trace.events
    rows = np.flatnonzero((events.lane == lane) & events.mask_of(*NESTED))
    found = np.full(len(times), -1, dtype=np.int64)
    place = np.searchsorted(events.start_ns[rows], times, side="right") - 1
    open_rows = np.flatnonzero(place >= 0)
    found[open_rows] = rows[place[open_rows]]
    while len(open_rows):
        ended = events.end_ns[found[open_rows]] <= times[open_rows]
        open_rows = open_rows[ended]
        found[open_rows] = events.parent[found[open_rows]]
        open_rows = open_rows[found[open_rows] >= 0]
    return found


def host_pieces(trace: Trace) -> Pieces:
    """Time of host events less that of the events inside them; framework before annotations before Python frames.

    Threads are laid over one another: while the thread that trains waits inside a range for the one that does
    backward, the time is backward's.
    """
    events = trace.events
    parts = [_self_time(trace, lane) for lane in range(len(trace.lanes)) if trace.lanes[lane].kind == "host"]
    if not parts:
        nothing = np.empty(0, dtype=np.int64)
        return Pieces(nothing, nothing, nothing, np.empty(0, dtype=np.int8))
    row, start, end = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(start, kind="stable")
    row, start, end = row[order], start[order], end[order]
    kind = events.kind[row]
    precedence = np.where(np.isin(kind, OF_FRAMEWORK), 0, np.where(np.isin(kind, RANGES), 1, 2)).astype(np.int8)
    return Pieces(row, start, end, precedence)


def _self_time(trace: Trace, lane: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row, start and end of stretches in which an event of the lane is the innermost."""
    events = trace.events
    rows = np.flatnonzero((events.lane == lane) & events.mask_of(*NESTED) & (events.duration_ns > 0))
    times = np.unique(np.r_[events.start_ns[rows], events.end_ns[rows]])
    owner = innermost_at(trace, lane, times[:-1]) if len(times) else np.empty(0, dtype=np.int64)
    known = np.flatnonzero(owner >= 0)
    return owner[known], times[:-1][known] if len(times) else times, times[1:][known] if len(times) else times
