"""What operations hold inside of themselves: workspace that they allocate and free before they are done.

The watched step knows each operation's results and nothing between; the allocator's events of a step whose operations
were recorded know all that was taken, and not for what. Put together: the n-th call of an operation in one step is the
n-th in the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from longpole.trace.kinds import Kind
from longpole.trace.memory import Inside

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from longpole.trace.memory import Allocations, StepMemory
    from longpole.trace.trace import Trace

OTHER_CALLS = (
    "The step whose allocations were recorded called {count:,} operations more or less often than the one whose memory "
    "was watched: what these hold inside of themselves is not counted."
)


def watched_step(trace: Trace) -> StepMemory | None:
    """The first step whose memory was watched, what operations hold inside of themselves counted where it is known."""
    record = trace.memory_record
    if record is None or not record.steps:
        return None
    step = record.steps[0]
    if record.allocations is None:
        return step
    spans = _spans(trace, record.allocations, set(step.calls.op))
    inside, others = _inside(step, record.allocations, spans)
    notes = [*step.notes, OTHER_CALLS.format(count=others)] if others else step.notes
    return replace(step, inside=inside, notes=notes)


def allocator_peak(trace: Trace) -> int | None:
    """The most that was allocated in the recorded step, by the allocator's events, above what tensors held when the
    watched step began. None where the recording does not know all that was given back in it."""
    record = trace.memory_record
    if record is None or not record.steps or record.allocations is None or not record.allocations.is_whole:
        return None
    storages = record.steps[0].storages
    start = sum(size for size, born in zip(storages.bytes, storages.born_ns, strict=True) if born < 0)
    return start + int(np.cumsum(record.allocations.bytes).max(initial=0))


def _spans(trace: Trace, found: Allocations, names: set[str]) -> dict[str, list[tuple[int, int]]]:
    """Start and end of each call in the step, by name; what an operation calls inside of itself is no call."""
    windows = [step for step in trace.steps if step.index == found.step]
    if not windows:
        return {}
    events = trace.events
    first, last = np.searchsorted(events.start_ns, [windows[0].start_ns, windows[0].end_ns])
    rows = np.arange(first, last)[events.kind[first:last] == Kind.OP]
    spans: dict[str, list[tuple[int, int]]] = {}
    busy: dict[int, int] = {}  # lane -> end of the call that is open
    for row in rows.tolist():
        start, lane, name = int(events.start_ns[row]), int(events.lane[row]), trace.name_of(row)
        if name in names and start >= busy.get(lane, start):
            busy[lane] = start + int(events.duration_ns[row])
            spans.setdefault(name, []).append((start, busy[lane]))
    return spans


def _inside(step: StepMemory, found: Allocations, spans: dict[str, list[tuple[int, int]]]) -> tuple[Inside, int]:
    """And how many operations were called more or less often in one step than in the other."""
    calls: dict[str, list[int]] = {}
    for row, name in enumerate(step.calls.op):
        calls.setdefault(name, []).append(row)
    times, held = np.array(found.time_ns, dtype=np.int64), np.cumsum(np.array([0, *found.bytes], dtype=np.int64))
    rows: list[tuple[int, int]] = []
    others = 0
    for name, mine in calls.items():
        risen = [_rise(times, held, span) for span in spans.get(name, [])]
        if not any(risen):
            continue
        if len(risen) != len(mine):
            others += 1
            continue
        rows += [(row, size) for row, size in zip(mine, risen, strict=True) if size]
    return _columns(step, sorted(rows)), others


def _rise(times: NDArray[np.int64], held: NDArray[np.int64], span: Sequence[int]) -> int:
    """How far memory climbs while it runs; 0 where it climbs no further than to what it leaves."""
    first, last = np.searchsorted(times, span)
    most = int(held[first : last + 1].max())
    return most - int(held[first]) if most > max(int(held[first]), int(held[last])) else 0


def _columns(step: StepMemory, rows: Iterable[tuple[int, int]]) -> Inside:
    calls, found = step.calls, Inside()
    for row, size in rows:
        if calls.end_ns[row] > 0:
            found.time_ns.append(calls.end_ns[row])
            found.bytes.append(size)
            found.layer.append(calls.layer[row])
            found.op.append(calls.op[row])
    return found
