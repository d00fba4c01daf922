"""Why the device is idle: each gap of all streams together, cut up by what the host did meanwhile.

The work that ends a gap was launched by the host at some time. Until then the device waited for the host, and
what the host did says why: it fetched data, it had waited for the device itself (synchronization), it was busy
issuing (launch), or it did something else (host). Work that was queued before the gap began waited for another
stream, or for the device's own turn from one kernel to the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_launches import NEVER, launches
from longpole.analysis.device_marks import matching
from longpole.analysis.distinct import distinct
from longpole.analysis.intervals import Intervals, complement, intersect, subtract, union
from longpole.trace import Kind, Phase

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.analysis.device_exclusive import Pieces
    from longpole.trace import Trace


class Cause(IntEnum):
    """In order of precedence where several hold at once."""

    DATA = 0
    COLLECTIVE = 1
    SYNCHRONIZATION = 2
    LAUNCH = 3
    HOST = 4
    STREAM = 5
    DEVICE = 6
    UNKNOWN = 7


SYNCHRONIZING = re.compile(
    r"^(cuda|hip|cu|musa|xpu)\w*Synchronize(_ptsz|_v\d)?$|^hipMemcpyWithStream$|^(cuda|hip)Memcpy$"
)
STREAM_WAIT = re.compile(r"^(cuda|hip|cu|musa)StreamWaitEvent")
COLLECTIVE_WAIT = re.compile(r"barrier|^(gloo|mpi):|\bwait\(\)", re.IGNORECASE)
LAUNCH_LATENCY_NS = 10_000  # from launch to start on an idle device: 3 to 10 us, and the two clocks differ by as much
LEAST_WAIT_NS = 20_000  # a shorter call did not wait: copies to pinned memory return at once
START_NS = 100_000  # longest from launch to start of work that nothing holds: launches take 1 to 25 us, seldom 90
TURN_NS = 50_000  # longest turn from one queued kernel to the next that needs no other reason
ISSUING_NS = 500_000  # a host that needs longer from one launch to the next is not issuing


@dataclass(frozen=True, slots=True)
class Gaps:
    """Stretches of device idleness, sorted and disjoint, each with one cause."""

    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    cause: NDArray[np.int8]
    number: NDArray[np.int64]  # of the gap that the stretch is part of
    ends_with: NDArray[np.int64]  # row of the device work after the gap; -1 where there is none
    lane: NDArray[np.int64]  # host thread that kept the device waiting; -1 where not known


@dataclass(frozen=True, slots=True)
class Waits:
    """What host threads did that keeps a device waiting."""

    data: Intervals
    synchronizing: Intervals
    collective: Intervals


def find_gaps(
    trace: Trace, pieces: Pieces, host_phase: NDArray[np.int64] | NDArray[np.int8], low: int, high: int
) -> Gaps:
    """All idleness of [low, high) by cause; the stretches sum to it exactly."""
    start, end = complement(union(pieces.start_ns, pieces.end_ns), low, high)
    following = _following(pieces, end)
    launched_by = launches(trace, following)
    launched = launched_by.returned_ns
    waits = find_waits(trace, host_phase)
    late = (launched > start - LAUNCH_LATENCY_NS) & (following >= 0)
    unknown = (following < 0) | (launched == NEVER)
    until = np.where(unknown, end, np.clip(launched, start, end))
    held = np.where(end - until <= START_NS, int(Cause.LAUNCH), int(Cause.UNKNOWN))
    cause_after = np.where(late, held, _why_queued(trace, pieces, start, end, following))
    host_late: Intervals = _nonempty(start, np.where(late | unknown, until, start))
    rest = np.where(unknown, int(Cause.UNKNOWN), _why_late(waits, start, launched_by.issuing_ns))
    rest[following < 0] = Cause.HOST  # after the last work, nothing more was launched
    parts = _by_host_state(host_late, waits, start, rest)
    queued = _nonempty(np.where(unknown, end, np.where(late, until, start)), end)
    parts.append((queued, cause_after[_number(start, queued[0])]))
    return _joined(trace, parts, start, following)


def find_waits(trace: Trace, host_phase: NDArray[np.int64] | NDArray[np.int8]) -> Waits:
    """Times in which host threads fetched data, waited for a device, or waited for other ranks."""
    events = trace.events
    fetching = np.flatnonzero((host_phase == Phase.DATA) & events.mask_of(Kind.OP, Kind.ANNOTATION, Kind.PYTHON))
    waiting = matching(trace, SYNCHRONIZING, (Kind.RUNTIME,))
    reads = matching(trace, re.compile("DtoH|DeviceToHost"), (Kind.MEMCPY,))
    waiting = np.union1d(waiting, events.launch[reads[events.launch[reads] >= 0]])
    waiting = waiting[events.duration_ns[waiting] >= LEAST_WAIT_NS]
    collective = matching(trace, COLLECTIVE_WAIT, (Kind.COLLECTIVE, Kind.ANNOTATION, Kind.OP))
    return Waits(*(union(events.start_ns[rows], events.end_ns[rows]) for rows in (fetching, waiting, collective)))


def _following(pieces: Pieces, end: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of the work that starts where each gap ends; -1 where none does."""
    place = np.searchsorted(pieces.start_ns, end, side="left")
    present = place < len(pieces.start_ns)
    place = np.minimum(place, max(len(pieces.start_ns) - 1, 0))
    if not len(pieces.start_ns):
        return np.full(len(end), -1, dtype=np.int64)
    return np.where(present & (pieces.start_ns[place] == end), pieces.row[place], -1)


def _why_late(waits: Waits, start: NDArray[np.int64], issuing: NDArray[np.int64]) -> NDArray[np.int64]:
    """The cause of what no wait explains: the host came from a wait for the device, was issuing, or did else."""
    low, high = waits.synchronizing
    place = np.searchsorted(low, start, side="right") - 1
    waited = np.zeros(len(start), dtype=bool)
    if len(low):
        waited = (place >= 0) & (high[np.maximum(place, 0)] + LAUNCH_LATENCY_NS >= start)
    busy = np.where(issuing <= ISSUING_NS, int(Cause.LAUNCH), int(Cause.HOST))
    return np.where(waited, int(Cause.SYNCHRONIZATION), busy)


def _why_queued(
    trace: Trace, pieces: Pieces, start: NDArray[np.int64], end: NDArray[np.int64], following: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The cause of gaps before work that was queued already: it waited for a stream, took its turn, or not known.

    A stream that is told to wait for an event waits for another stream. Long gaps without that are not
    explained: a recorder does not see inside CUDA graphs of older versions, nor work of other processes.
    """
    waits = _tells_to_wait(trace, following) | _other_stream(trace, pieces, start, following)
    turn = np.where(end - start <= TURN_NS, int(Cause.DEVICE), int(Cause.UNKNOWN))
    return np.where(waits, int(Cause.STREAM), turn)


def _tells_to_wait(trace: Trace, following: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the launching thread told a stream to wait for an event just before the launch of each row."""
    events = trace.events
    found = np.zeros(len(following), dtype=bool)
    waits = matching(trace, STREAM_WAIT, (Kind.RUNTIME,))
    launch = np.where(following >= 0, events.launch[np.maximum(following, 0)], -1)
    if not len(waits) or not len(launch):
        return found
    calls = distinct(events.launch[events.launch >= 0])
    for lane in distinct(events.lane[waits]).tolist():
        told, mine = waits[events.lane[waits] == lane], calls[events.lane[calls] == lane]
        here = np.flatnonzero((launch >= 0) & (events.lane[np.maximum(launch, 0)] == lane))
        last_told = np.r_[-1, told][np.searchsorted(told, launch[here], side="left")]
        last_call = np.r_[-1, mine][np.searchsorted(mine, launch[here], side="left")]
        found[here] = last_told > last_call
    return found


def _other_stream(
    trace: Trace, pieces: Pieces, start: NDArray[np.int64], following: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether the work after each gap is on another stream than the work that ended where the gap began."""
    order = np.argsort(pieces.end_ns, kind="stable")
    if not len(order):
        return np.zeros(len(start), dtype=bool)
    place = np.searchsorted(pieces.end_ns[order], start, side="right") - 1
    previous = pieces.row[order[np.maximum(place, 0)]]
    lane = trace.events.lane
    return (place >= 0) & (following >= 0) & (lane[previous] != lane[np.maximum(following, 0)])


def _by_host_state(
    late: Intervals, waits: Waits, start: NDArray[np.int64], rest: NDArray[np.int64]
) -> list[tuple[Intervals, NDArray[np.int64]]]:
    """The times the host was late, cut up by its waits; what is left has the cause `rest` of its gap."""
    parts: list[tuple[Intervals, NDArray[np.int64]]] = []
    left = late
    for cause, held in (
        (Cause.DATA, waits.data),
        (Cause.COLLECTIVE, waits.collective),
        (Cause.SYNCHRONIZATION, waits.synchronizing),
    ):
        mine = intersect(left, held)
        left = subtract(left, held)
        parts.append((mine, np.full(len(mine[0]), int(cause), dtype=np.int64)))
    # Touching gaps may have become one interval: they cannot, for work of some length lies between gaps.
    parts.append((left, rest[_number(start, left[0])]))
    return parts


def _number(start: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """The gap in which each time lies."""
    return np.maximum(np.searchsorted(start, times, side="right") - 1, 0)


def _nonempty(start: NDArray[np.int64], end: NDArray[np.int64]) -> Intervals:
    keep = end > start
    return start[keep], end[keep]


def _joined(
    trace: Trace,
    parts: list[tuple[Intervals, NDArray[np.int64]]],
    start: NDArray[np.int64],
    following: NDArray[np.int64],
) -> Gaps:
    begins = np.concatenate([part[0] for part, _ in parts])
    ends = np.concatenate([part[1] for part, _ in parts])
    causes = np.concatenate([cause for _, cause in parts])
    order = np.argsort(begins, kind="stable")
    number = _number(start, begins[order])
    after = following[number] if len(start) else np.empty(0, dtype=np.int64)
    launch = np.where(after >= 0, trace.events.launch[np.maximum(after, 0)], -1) if len(after) else after
    lane = np.where(launch >= 0, trace.events.lane[np.maximum(launch, 0)], -1) if len(after) else after
    return Gaps(begins[order], ends[order], causes[order].astype(np.int8), number, after, lane)


def idle_by_cause(gaps: Gaps, low: int, high: int) -> NDArray[np.int64]:
    """Nanoseconds of each cause in [low, high), by the number of the cause."""
    inside = np.maximum(np.minimum(gaps.end_ns, high) - np.maximum(gaps.start_ns, low), 0)
    found = np.zeros(len(Cause), dtype=np.int64)
    np.add.at(found, gaps.cause, inside)
    return found
