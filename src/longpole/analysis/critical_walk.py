"""The critical path, walked back from the end of a window: at each place to what was waited for last.

Every nanosecond of the path belongs to one segment, and a segment ends where the one after it starts, so the
path is never longer than the window and its parts sum to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.critical_edges import last_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from longpole.analysis.critical_edges import Graph

    Graphs = Mapping[int, Graph]
    # (rank, place) of a collective's work -> (rank, place, time) of the last member's arrival in it
    Arrivals = Mapping[tuple[int, int], tuple[int, int, int]]


class Sort(IntEnum):
    """What a segment of the path is."""

    DEVICE = 0  # a piece of device work ran; `item` is its place in the graph
    LAUNCH = 1  # from the host call to the start of the work that it launched, which is `item`
    HOST = 2  # a host thread worked; `item` is its lane
    GAP = 3  # work waited for had ended, and `item` had not begun yet
    SYNCHRONIZATION = 4  # `item` had ended, and the host call that waited for it had not returned yet


@dataclass(frozen=True, slots=True)
class Path:
    """Segments of the path, latest first: columns. Times are on the reference's clock."""

    rank: NDArray[np.int64]
    sort: NDArray[np.int64]
    item: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]

    @property
    def length_ns(self) -> int:
        return int(np.sum(self.end_ns - self.start_ns))


class Walk:
    """The state of one walk back."""

    def __init__(self, graphs: Graphs, window: tuple[int, int], arrivals: Arrivals, *, possible: bool) -> None:
        self.graphs = graphs
        self.low, self.time = window
        self.arrivals = arrivals
        self.possible = possible
        self.segments: list[tuple[int, int, int, int, int]] = []

    def back_to(self, rank: int, sort: Sort, item: int, time: int) -> None:
        """Adds the segment from `time` (not before the window) to where the walk is."""
        time = max(min(time, self.time), self.low)
        if time < self.time:
            self.segments.append((rank, int(sort), item, time, self.time))
            self.time = time

    def path(self) -> Path:
        table = np.array(self.segments, dtype=np.int64).reshape(-1, 5)
        return Path(*(table[:, column] for column in range(5)))


def walk(graphs: Graphs, rank: int, window: tuple[int, int], arrivals: Arrivals, *, possible: bool) -> Path:
    """The path that ends at the end of the window on `rank`; `possible` says whether to follow uncertain edges.

    `graphs`, by rank, are asked for those that the path visits.
    The window's end is the end of the last device work in it, or else a time at which the host worked.
    """
    state = Walk(graphs, window, arrivals, possible=possible)
    graph = graphs[rank]
    last = _last_work(graph, *window)
    lane = _launching_lane(graph, last)
    visited, steps = {rank}, 8 + _most_steps(graph)
    place = last if last >= 0 and graph.end_ns[last] == window[1] else -1
    while state.time > state.low and steps > 0:
        steps -= 1
        if place >= 0:
            rank, place, lane = _from_work(state, rank, place)
            if rank not in visited:
                visited.add(rank)
                steps += _most_steps(graphs[rank])
        elif lane >= 0:
            place, lane = _from_host(state, rank, lane)
        else:
            break
    return state.path()


def _most_steps(graph: Graph) -> int:
    """More than a path can take on one rank, unless it goes round in a circle where all take no time."""
    return 4 * (len(graph) + sum(len(thread.blocks) + len(thread.handovers) for thread in graph.threads.values()))


def _last_work(graph: Graph, low: int, high: int) -> int:
    """The work that ended last within the window; -1 where none did."""
    ends = np.asarray(graph.end_ns)
    inside = np.flatnonzero((ends > low) & (ends <= high))
    return int(inside[np.argmax(ends[inside])]) if len(inside) else -1


def _launching_lane(graph: Graph, last: int) -> int:
    """The host thread on which the walk starts where no device work ends the window."""
    if last >= 0 and graph.launch_lane[last] >= 0:
        return graph.launch_lane[last]
    return max(graph.threads, key=lambda lane: len(graph.threads[lane].blocks), default=-1)


def _from_work(state: Walk, rank: int, place: int) -> tuple[int, int, int]:
    """From the end of device work over the work to what it waited for: rank, place of other work, host lane."""
    arrival = state.arrivals.get((rank, place))
    if arrival is not None and arrival[2] < state.time:
        state.back_to(rank, Sort.DEVICE, place, arrival[2])
        rank, place, _ = arrival
    graph = state.graphs[rank]
    start = graph.start_ns[place]
    state.back_to(rank, Sort.DEVICE, place, start)
    source = _latest(graph, place, possible=state.possible)
    ready = min(graph.end_ns[source], start) if source >= 0 else None
    launched = graph.launch_ns[place]
    if graph.launch_lane[place] >= 0 and (ready is None or min(launched + graph.latency_ns, start) >= ready):
        state.back_to(rank, Sort.LAUNCH, place, launched)
        return rank, -1, graph.launch_lane[place]
    if ready is not None:
        state.back_to(rank, Sort.GAP, place, ready)
    return rank, source, -1


def _latest(graph: Graph, place: int, *, possible: bool) -> int:
    """Of the work that a piece of work waited for, the one that ended last; -1 where it waited for none."""
    found = graph.before[place]
    others = (graph.awaited[place], graph.possible[place]) if possible else (graph.awaited[place],)
    for other in others:
        if other >= 0 and (found < 0 or graph.end_ns[other] > graph.end_ns[found]):
            found = other
    return found


def _from_host(state: Walk, rank: int, lane: int) -> tuple[int, int]:
    """From a time on a host thread back to its last wait for the device or for another thread: place, lane."""
    thread = state.graphs[rank].threads.get(lane)
    if thread is None:
        state.back_to(rank, Sort.HOST, lane, state.low)
        return -1, -1
    blocks = thread.blocks if state.possible else thread.certain
    block = last_at(thread.block_ends if state.possible else thread.certain_ends, state.time)
    given = last_at(thread.handover_ends, state.time)
    returned = blocks[block].end_ns if block >= 0 else None
    resumed = thread.handover_ends[given] if given >= 0 else None
    if returned is not None and (resumed is None or returned >= resumed):
        source = blocks[block].source
        state.back_to(rank, Sort.HOST, lane, returned)
        state.back_to(rank, Sort.SYNCHRONIZATION, source, state.graphs[rank].end_ns[source])
        return source, -1
    if resumed is not None:
        handover = thread.handovers[given]
        state.back_to(rank, Sort.HOST, lane, handover.at_ns)
        return -1, handover.lane
    state.back_to(rank, Sort.HOST, lane, state.low)
    return -1, -1
