"""A critical path cut where the event that it belongs to changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.critical_walk import Sort
from longpole.analysis.device_tree import innermost_at
from longpole.analysis.distinct import distinct

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.analysis.critical_edges import Graph
    from longpole.analysis.critical_walk import Path
    from longpole.trace import Trace


@dataclass(frozen=True, slots=True)
class Pieces:
    """The path cut where the event that it belongs to changes; `row` is of the rank's table, -1 is none."""

    rank: NDArray[np.int64]
    sort: NDArray[np.int64]
    row: NDArray[np.int64]
    time_ns: NDArray[np.int64]


def pieces_of(path: Path, traces: Sequence[Trace], graphs: Mapping[int, Graph], offsets: Sequence[int]) -> Pieces:
    """Device segments belong to their work, gaps and launches to the work after; host time to the innermost event."""
    time = path.end_ns - path.start_ns
    row = np.full(len(path.rank), -1, dtype=np.int64)
    parts: list[Pieces] = []
    for rank in distinct(path.rank).tolist():
        mine = np.flatnonzero((path.rank == rank) & (path.sort != Sort.HOST))
        row[mine] = graphs[rank].row[path.item[mine]]
        parts.append(Pieces(path.rank[mine], path.sort[mine], row[mine], time[mine]))
        on_host = (path.rank == rank) & (path.sort == Sort.HOST)
        for lane in distinct(path.item[on_host]).tolist():
            here = np.flatnonzero(on_host & (path.item == lane))
            low, high = path.start_ns[here] - offsets[rank], path.end_ns[here] - offsets[rank]
            found, length = _host_rows(traces[rank], lane, low[::-1], high[::-1])
            parts.append(Pieces(np.full_like(found, rank), np.full_like(found, int(Sort.HOST)), found, length))
    return (
        Pieces(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("rank", "sort", "row", "time_ns")))
        if parts
        else Pieces(*(np.empty(0, dtype=np.int64) for _ in range(4)))
    )


def _host_rows(
    trace: Trace, lane: int, low: NDArray[np.int64], high: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The innermost event of a thread, and nanoseconds, for each stretch of the sorted intervals given."""
    events = trace.events
    near = np.flatnonzero((events.lane == lane) & (events.start_ns < high[-1]) & (events.end_ns > low[0]))
    times = np.sort(np.r_[events.start_ns[near], events.end_ns[near], low, high])
    times = times[np.r_[True, times[1:] > times[:-1]]]  # np.unique of numpy 2 hashes, which takes ten times as long
    inside = np.searchsorted(low, times[:-1], side="right") > np.searchsorted(high, times[:-1], side="right")
    times, past = times[:-1][inside], times[1:][inside]
    return innermost_at(trace, lane, times), past - times
