"""Each matched collective, rank by rank: how long a rank waited for the last one, and what the last was doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.analysis.device_results import CollectiveSkew
from longpole.cost.collectives import bus_bytes_per_s
from longpole.trace import DEVICE_WORK, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from longpole.analysis.clock_alignment import Alignment, Match
    from longpole.trace import StepWindow, Trace

NO_STEP = -1
LEAST_LATE_NS = 20_000  # ends of collectives differ by as much from rank to rank
MOST_LATE = 2000  # collectives looked into: the latest say nearly all there is to say
COMPARED = 8  # other ranks that the last one is compared with


@dataclass(frozen=True, slots=True)
class Waits:
    """One match's collectives that members leave together; matrices are members x collectives, ns.

    A kernel's duration is its wait for the last member, then the transfer; nothing is left over.
    """

    match: Match
    wait_ns: NDArray[np.int64]
    transfer_ns: NDArray[np.int64]
    spread_ns: NDArray[np.int64]  # of each collective, from its first to its last arrival
    last: NDArray[np.int64]  # of each collective, the place of the last member to arrive
    late_ns: NDArray[np.int64]  # of each collective, by how much the last came after the middle of the others
    step: NDArray[np.int64]  # StepWindow.index of each collective; NO_STEP where its launch was not recorded
    place: NDArray[np.int64]  # of each collective, its column in the match


def waits_of(
    match: Match, alignment: Alignment, traces: Sequence[Trace], steps: Sequence[Sequence[StepWindow]]
) -> Waits:
    """Splits the members' time in each collective at the last arrival, on aligned clocks."""
    sure = np.flatnonzero(match.together())
    start = alignment.shifted(match.start_ns[:, sure], match.members)
    end = alignment.shifted(match.end_ns[:, sure], match.members)
    arrived = start.max(axis=0) if len(sure) else np.empty(0, dtype=np.int64)
    wait = np.clip(arrived - start, 0, end - start)
    last = start.argmax(axis=0) if len(sure) else np.empty(0, dtype=np.int64)
    return Waits(
        match=match,
        wait_ns=wait,
        transfer_ns=end - start - wait,
        spread_ns=arrived - start.min(axis=0) if len(sure) else arrived,
        last=last,
        late_ns=_lateness(start, arrived),
        step=_steps(match, sure, traces, steps),
        place=sure,
    )


def _lateness(start: NDArray[np.int64], arrived: NDArray[np.int64]) -> NDArray[np.int64]:
    others = np.sort(start, axis=0)[:-1]
    return arrived - np.median(others, axis=0).astype(np.int64) if others.size else np.zeros_like(arrived)


def _steps(
    match: Match, place: NDArray[np.intp], traces: Sequence[Trace], steps: Sequence[Sequence[StepWindow]]
) -> NDArray[np.int64]:
    """The step in which each collective was launched, by the first member whose trace tells."""
    found = np.full(len(place), NO_STEP, dtype=np.int64)
    for index, member in enumerate(match.members):
        windows = steps[member]
        if not windows:
            continue
        events = traces[member].events
        launch = events.launch[match.row[index, place]]
        starts = np.array([window.start_ns for window in windows], dtype=np.int64)
        ends = np.array([window.end_ns for window in windows], dtype=np.int64)
        numbers = np.array([window.index for window in windows], dtype=np.int64)
        time = events.start_ns[np.maximum(launch, 0)]
        at = np.searchsorted(starts, time, side="right") - 1
        inside = (launch >= 0) & (at >= 0) & (time < ends[np.maximum(at, 0)]) & (found == NO_STEP)
        found[inside] = numbers[at[inside]]
    return found


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """A device's time cut where what it does changes; idle time belongs to the work that ends it.

    Overlapping work belongs to what started first. Times are the rank's own.
    """

    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    phase: NDArray[np.int64]
    idle: NDArray[np.bool_]

    def between(self, low: int, high: int) -> dict[tuple[int, bool], int]:
        """Nanoseconds by (phase, idle) in [low, high)."""
        first = int(np.searchsorted(self.end_ns, low, side="right"))
        past = int(np.searchsorted(self.start_ns, high, side="left"))
        cut = slice(first, past)
        length = np.minimum(self.end_ns[cut], high) - np.maximum(self.start_ns[cut], low)
        found: dict[tuple[int, bool], int] = {}
        for phase, idle, time in zip(self.phase[cut].tolist(), self.idle[cut].tolist(), length.tolist(), strict=True):
            found[phase, idle] = found.get((phase, idle), 0) + time
        return found


def device_time(trace: Trace, host_phase: NDArray[np.integer[Any]]) -> DeviceTime:
    """`host_phase` is the phase of each host row: work has the phase of its launch."""
    events = trace.events
    rows = events.rows_of(*DEVICE_WORK)
    launch = events.launch[rows]
    phase = np.where(launch >= 0, host_phase[np.maximum(launch, 0)].astype(np.int64), int(Phase.NOBODY))
    start = events.start_ns[rows]
    end = start + events.duration_ns[rows]
    before = np.maximum.accumulate(np.r_[start[:1], end[:-1]]) if len(rows) else start
    gap = np.stack([before, start], axis=1)
    own = np.stack([np.maximum(start, before), end], axis=1)
    both = np.stack([gap, own], axis=1).reshape(-1, 2)
    phases, idle = np.repeat(phase, 2), np.tile([True, False], len(rows))
    keep = both[:, 1] > both[:, 0]
    return DeviceTime(both[keep, 0], both[keep, 1], phases[keep], idle[keep])


def latest(waits: Waits, chosen: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The collectives with the longest lateness, at most `MOST_LATE` of them: places in the arrays of `waits`."""
    late = np.flatnonzero(chosen & (waits.late_ns > LEAST_LATE_NS) & (waits.place > 0))
    return late[np.argsort(-waits.late_ns[late], kind="stable")][:MOST_LATE]


def more_than_others(waits: Waits, column: int, spans: Sequence[DeviceTime]) -> dict[tuple[int, bool], float]:
    """Nanoseconds by (phase, idle) that the last member took more than the middle of the others for what comes
    between the collective before and this one; they sum to about its lateness.

    Lateness is rarely made just before a collective: a device that ran dry early is still at work late.
    """
    match, place = waits.match, int(waits.place[column])
    last = int(waits.last[column])
    others = [index for index in range(len(match.members)) if index != last]
    others = others[:: max(1, len(others) // COMPARED)]
    taken = [
        spans[match.members[index]].between(int(match.end_ns[index, place - 1]), int(match.start_ns[index, place]))
        for index in (last, *others)
    ]
    keys = {key for one in taken for key in one}
    return {key: taken[0].get(key, 0) - float(np.median([one.get(key, 0) for one in taken[1:]])) for key in keys}


def skews(all_waits: Sequence[Waits], chosen: Sequence[NDArray[np.bool_]]) -> list[CollectiveSkew]:
    """By group and operation, of the chosen collectives of each match: the longest waits first."""
    found: list[CollectiveSkew] = []
    for waits, mask in zip(all_waits, chosen, strict=True):
        operations = [waits.match.operation[place] for place in waits.place.tolist()]
        for operation in dict.fromkeys(operations):
            mine = np.array([one == operation for one in operations], dtype=np.bool_) & mask
            if mine.any():
                found.append(_skew(waits, operation, mine))
    return sorted(found, key=lambda one: -one.wait_ms)


def _skew(waits: Waits, operation: str | None, mine: NDArray[np.bool_]) -> CollectiveSkew:
    members = len(waits.match.members)
    group = waits.match.size
    transfer = waits.transfer_ns[:, mine].mean(axis=0)
    size = waits.match.message_bytes[waits.place[mine]]
    known = size >= 0
    speed = None
    if operation is not None and known.any() and group > 0:
        speed = bus_bytes_per_s(operation, float(size[known].sum()), group, float(transfer[known].sum()) / 1e9)
    return CollectiveSkew(
        group=waits.match.group or None,
        operation=operation,
        ranks=members,
        count=int(mine.sum()),
        wait_ms=float(waits.wait_ns[:, mine].mean(axis=0).sum()) / 1e6,
        transfer_ms=float(transfer.sum()) / 1e6,
        worst_ms=float(waits.spread_ns[mine].max()) / 1e6,
        bus_bytes_per_s=speed,
    )
