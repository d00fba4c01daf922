"""What each piece of device work and each host thread of a trace had to wait for: the edges of the critical path."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.analysis.distinct import distinct
from longpole.analysis.intervals import union
from longpole.trace import DEVICE_WORK, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from longpole.trace import Trace

NOTHING = -1
SLACK_NS = 2000  # by which host and device clocks may disagree
MOST_LATENCY_NS = 15_000  # a launch that takes longer met a queue
USUAL_LATENCY_NS = 5_000
LEAST_PAUSE_NS = 5000  # of a host thread, to look whether another one worked meanwhile
# Runtime and driver calls of CUDA and HIP that return when device work has ended.
DEVICE_WIDE = re.compile(r"^(cuda|hip)DeviceSynchronize$|^(cu|hip)CtxSynchronize$")
ONE_STREAM = re.compile(r"^(cuda|hip|cu)(StreamSynchronize|EventSynchronize)$")
SYNCHRONIZE = re.compile(f"{DEVICE_WIDE.pattern}|{ONE_STREAM.pattern}")
COPY = re.compile(r"^(cuda|hip|cu)Memcpy")
EVENT_RECORD = re.compile(r"EventRecord")
STREAM_WAIT = re.compile(r"StreamWaitEvent$")
ON_HOST = (Kind.OP, Kind.RUNTIME, Kind.COLLECTIVE)


@dataclass(frozen=True, slots=True)
class Block:
    """A host call that returned because a piece of device work had ended."""

    end_ns: int
    source: int  # place in Graph.row
    certain: bool  # False: the trace does not say for which stream it waited


@dataclass(frozen=True, slots=True)
class Handover:
    """A host thread began to work again after a pause in which another thread worked."""

    end_ns: int  # of the pause
    lane: int  # the other thread
    at_ns: int  # when that thread's work ended, or the end of the pause where it went on


@dataclass(frozen=True, slots=True)
class Thread:
    """One host thread that launches device work; all lists in order of time."""

    blocks: Sequence[Block]
    certain: Sequence[Block]  # those of `blocks` that are
    handovers: Sequence[Handover]
    block_ends: Sequence[int]
    certain_ends: Sequence[int]
    handover_ends: Sequence[int]


@dataclass(frozen=True, slots=True)
class Graph:
    """Device work of one trace in order of start: the walk visits single items, which a view of a column gives almost
    as fast as a list, and a list of it would first have to be made. -1 is nothing.

    Times are on the clock of the reference rank.
    """

    row: NDArray[np.int64]  # rows of the event table
    start_ns: memoryview[int]
    end_ns: memoryview[int]
    before: memoryview[int]  # place of the work before it on its stream
    awaited: memoryview[int]  # place of the work that a recorded wait names
    possible: memoryview[int]  # place of work that it may have waited for: a wait was issued, but not recorded whose
    launch_ns: memoryview[int]  # when the host call began; -1 where none is known
    launch_lane: memoryview[int]
    latency_ns: int  # the least that a launch takes to reach the device
    threads: dict[int, Thread] = field(default_factory=dict[int, Thread])
    uncertain: tuple[str, ...] = ()  # why some edges are only possible

    def __len__(self) -> int:
        return len(self.start_ns)


def graph_of(trace: Trace, offset_ns: int = 0) -> Graph:
    """The edges of a trace; `offset_ns` is added to all times."""
    events = trace.events
    rows = events.rows_of(*DEVICE_WORK).astype(np.int64)
    launch = events.launch[rows].astype(np.int64)
    start = events.start_ns[rows]
    end = start + events.duration_ns[rows]
    started = np.where(launch >= 0, events.start_ns[np.maximum(launch, 0)], NOTHING)
    launch[started > start + SLACK_NS] = NOTHING  # a clock that runs backwards starts nothing
    known = launch >= 0
    delay = (start - started)[known]
    before = _before(events.lane[rows])
    awaited = _awaited(trace, rows, launch)
    possible, why = _possible(trace, rows, launch, before)
    blocks, why_blocks = _blocks(trace, rows, launch)
    return Graph(
        row=rows,
        start_ns=_view(start + offset_ns),
        end_ns=_view(end + offset_ns),
        before=_view(before),
        awaited=_view(awaited),
        possible=_view(possible),
        launch_ns=_view(np.where(known, np.minimum(started, start) + offset_ns, NOTHING)),
        launch_lane=_view(np.where(known, events.lane[np.maximum(launch, 0)], NOTHING)),
        latency_ns=_latency(delay),
        threads=_threads(trace, distinct(events.lane[launch[known]]).tolist(), blocks, offset_ns),
        uncertain=(*why, *why_blocks),
    )


def _view(column: NDArray[np.integer[Any]]) -> memoryview[int]:
    return np.ascontiguousarray(column, dtype=np.int64).data


def _latency(delay_ns: NDArray[np.int64]) -> int:
    """The least that a launch takes to arrive; where all work was queued, the delays do not show it."""
    least = int(np.percentile(delay_ns, 1)) if len(delay_ns) else 0
    return max(least, 0) if least <= MOST_LATENCY_NS else USUAL_LATENCY_NS


def _before(lane: NDArray[np.int32]) -> NDArray[np.int64]:
    """The place of the work before each on its stream."""
    order = np.argsort(lane, kind="stable")
    found = np.full(len(lane), NOTHING, dtype=np.int64)
    same = lane[order[1:]] == lane[order[:-1]]
    found[order[1:][same]] = order[:-1][same]
    return found


def _awaited(trace: Trace, rows: NDArray[np.int64], launch: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each piece of work the latest-ending one among those that recorded waits on its stream name.

    A wait on a stream holds up what is launched to it afterwards: it counts for the first piece of work
    launched after it, and by stream order for all that follow.
    """
    events, waits = trace.events, trace.waits
    found = np.full(len(rows), NOTHING, dtype=np.int64)
    if not len(waits.row):
        return found
    ends = events.end_ns[rows]
    records = {int(events.correlation[r]): int(events.start_ns[r]) for r in _calls(trace, EVENT_RECORD)}
    streams = _by_issue(trace, rows, launch)
    for sync, record, stream in zip(waits.row.tolist(), waits.record.tolist(), waits.stream.tolist(), strict=True):
        call, lane = int(events.launch[sync]), trace.lanes[int(events.lane[sync])]
        if record not in records or "Stream Wait" not in trace.name_of(sync) or call < 0:
            continue
        giving, taking = streams.get((lane.device, stream)), streams.get((lane.device, lane.thread))
        if giving is None or taking is None:
            continue
        last = int(np.searchsorted(giving[1], records[record], side="right")) - 1
        first = int(np.searchsorted(taking[1], events.start_ns[call], side="left"))
        if last >= 0 and first < len(taking[0]):
            source, target = int(giving[0][last]), int(taking[0][first])
            old = int(found[target])
            if source < target and (old < 0 or ends[source] > ends[old]):
                found[target] = source
    return found


def _by_issue(
    trace: Trace, rows: NDArray[np.int64], launch: NDArray[np.int64]
) -> dict[tuple[int, int], tuple[NDArray[np.intp], NDArray[np.int64]]]:
    """By (device, stream) the places of launched work and when it was launched, in order of launch."""
    events = trace.events
    found: dict[tuple[int, int], tuple[NDArray[np.intp], NDArray[np.int64]]] = {}
    for lane in distinct(events.lane[rows]).tolist():
        places = np.flatnonzero((events.lane[rows] == lane) & (launch >= 0))
        issued = events.start_ns[launch[places]]
        order = np.argsort(issued, kind="stable")
        found[trace.lanes[lane].device, trace.lanes[lane].thread] = (places[order], issued[order])
    return found


def _calls(trace: Trace, pattern: re.Pattern[str]) -> NDArray[np.intp]:
    """Host calls whose name has the pattern, in order of start."""
    calls = trace.events.rows_of(Kind.RUNTIME)
    names = trace.events.name[calls]
    codes = [code for code in distinct(names).tolist() if pattern.search(trace.text(code))]
    return calls[np.isin(names, codes)]


def _possible(
    trace: Trace, rows: NDArray[np.int64], launch: NDArray[np.int64], before: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The work that ended last before each piece's start, where an unrecorded wait may have named it.

    That is where a stream wait was issued between the launches of the stream's previous work and of this one.
    """
    events = trace.events
    found = np.full(len(rows), NOTHING, dtype=np.int64)
    waits = events.start_ns[_calls(trace, STREAM_WAIT)]
    if len(trace.waits.row) or len(distinct(events.lane[rows])) < 2 or not len(waits):
        return found, ()
    issued = np.where(launch >= 0, events.start_ns[np.maximum(launch, 0)], NOTHING)
    earlier = np.where(before >= 0, issued[np.maximum(before, 0)], NOTHING)
    between = np.searchsorted(waits, issued) > np.searchsorted(waits, earlier)
    held = np.flatnonzero((issued >= 0) & between)
    order = np.argsort(events.end_ns[rows], kind="stable")
    last = np.searchsorted(events.end_ns[rows][order], events.start_ns[rows[held]], side="right") - 1
    last -= (last >= 0) & (order[np.maximum(last, 0)] == held)  # work of no length ends as it starts
    source = np.where(last >= 0, order[np.maximum(last, 0)], NOTHING)
    useful = (source >= 0) & (source < held)
    found[held[useful]] = source[useful]
    told = "waits of streams for one another were not recorded (record with cuda_sync events enabled)"
    return found, (told,) if useful.any() else ()


def _blocks(
    trace: Trace, rows: NDArray[np.int64], launch: NDArray[np.int64]
) -> tuple[dict[int, list[Block]], tuple[str, ...]]:
    """Host calls that waited for the device, by lane, in order of end."""
    events = trace.events
    all_ends = events.end_ns  # a column made on the spot: once, and not for each call
    end = all_ends[rows]
    by_lane = {NOTHING: np.argsort(end, kind="stable")}
    for lane in distinct(events.lane[rows]).tolist():
        mine = np.flatnonzero(events.lane[rows] == lane)
        by_lane[lane] = mine[np.argsort(end[mine], kind="stable")]
    ends = {lane: end[places] for lane, places in by_lane.items()}
    recorded = {int(events.launch[s]): int(s) for s in events.rows_of(Kind.SYNC) if events.launch[s] >= 0}
    waited = [(call, place, True) for call, place in _copies(trace, rows, launch)]
    for call in _calls(trace, SYNCHRONIZE).tolist():
        streams, certain = _waited_for(trace, call, recorded.get(call), len(by_lane) - 1)
        waited.append((call, _last_ended(streams, by_lane, ends, int(all_ends[call])), certain))
    found: dict[int, list[Block]] = {}
    why: set[str] = set()
    for call, source, certain in waited:
        if source < 0 or not events.start_ns[call] < end[source] <= all_ends[call] + SLACK_NS:
            continue
        if not certain:
            why.add("it was not recorded for which stream or event the host waited")
        found.setdefault(int(events.lane[call]), []).append(Block(int(all_ends[call]), source, certain))
    return {lane: sorted(blocks, key=lambda block: block.end_ns) for lane, blocks in found.items()}, tuple(sorted(why))


def _copies(trace: Trace, rows: NDArray[np.int64], launch: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Calls that copied and did not return before the copy had ended, with its place."""
    events = trace.events
    places = np.flatnonzero(launch >= 0)
    places = places[np.isin(launch[places], _calls(trace, COPY))]
    waited = events.end_ns[rows[places]] <= events.end_ns[launch[places]]
    return list(zip(launch[places[waited]].tolist(), places[waited].tolist(), strict=True))


def _waited_for(trace: Trace, call: int, sync: int | None, streams: int) -> tuple[Sequence[int], bool]:
    """Lanes of the streams that a call may have waited for (-1 is all of them), and whether that is certain."""
    if DEVICE_WIDE.search(trace.name_of(call)) or streams < 2:
        return [NOTHING], True
    if sync is None:
        return [NOTHING], False
    lane = trace.lanes[int(trace.events.lane[sync])]
    number = lane.thread if "Stream Sync" in trace.name_of(sync) else NOTHING
    if "Event Sync" in trace.name_of(sync):
        told = np.flatnonzero(trace.waits.row == sync)
        number = int(trace.waits.stream[told[0]]) if len(told) else NOTHING
    if number < 0:
        return [NOTHING], False
    return [
        index
        for index, one in enumerate(trace.lanes)
        if one.kind == "stream" and one.device == lane.device and one.thread == number
    ], True


def _last_ended(
    streams: Sequence[int], by_lane: dict[int, NDArray[np.intp]], ends: dict[int, NDArray[np.int64]], until_ns: int
) -> int:
    """The place of the last work on these streams that ended by then."""
    best, best_end = NOTHING, NOTHING
    for lane in streams:
        if lane not in ends:
            continue
        at = int(np.searchsorted(ends[lane], until_ns + SLACK_NS, side="right")) - 1
        if at >= 0 and ends[lane][at] > best_end:
            best, best_end = int(by_lane[lane][at]), int(ends[lane][at])
    return best


def _threads(trace: Trace, lanes: Sequence[int], blocks: dict[int, list[Block]], offset_ns: int) -> dict[int, Thread]:
    work = {lane: _work(trace, lane) for lane in lanes}
    found: dict[int, Thread] = {}
    for lane in lanes:
        moved = [Block(b.end_ns + offset_ns, b.source, b.certain) for b in blocks.get(lane, [])]
        given = _handovers(lane, work, offset_ns)
        sure = [block for block in moved if block.certain]
        ends = ([one.end_ns for one in listed] for listed in (moved, sure, given))
        found[lane] = Thread(moved, sure, given, *ends)
    return found


def _work(trace: Trace, lane: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """When a host thread had an op or a runtime call open.

    A range of the user's that old traces call an op (`ProfilerStep#3`) says nothing: while the thread that does
    backward works inside it, its own thread waits.
    """
    events = trace.events
    rows = events.rows_of(*ON_HOST)
    rows = rows[events.lane[rows] == lane]
    holding = np.zeros(len(events), dtype=np.bool_)
    holding[events.parent[events.parent >= 0]] = True
    codes = np.unique(events.name[rows[holding[rows]]]).tolist()
    plain = [code for code in codes if "::" not in trace.text(code)]
    rows = rows[~(holding[rows] & np.isin(events.name[rows], plain))]
    return union(events.start_ns[rows], np.maximum(events.end_ns[rows], events.start_ns[rows] + 1))


def _handovers(
    lane: int, work: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]], offset_ns: int
) -> list[Handover]:
    starts, ends = work[lane]
    began = np.r_[np.iinfo(np.int64).min // 2, ends[:-1]] if len(starts) else starts
    found: dict[int, Handover] = {}
    for other, (low, high) in work.items():
        if other == lane or not len(low):
            continue
        at = np.searchsorted(low, starts, side="left") - 1
        active = np.minimum(high[np.maximum(at, 0)], starts)
        gives = (at >= 0) & (starts - began >= LEAST_PAUSE_NS) & (active > began)
        for index in np.flatnonzero(gives).tolist():
            time = int(active[index]) + offset_ns
            if index not in found or found[index].at_ns < time:
                found[index] = Handover(int(starts[index]) + offset_ns, other, time)
    return [found[index] for index in sorted(found)]


def last_at(times: Sequence[int], until_ns: int) -> int:
    """The place of the last of sorted times that is no later; -1 where there is none."""
    return bisect_right(times, until_ns) - 1
