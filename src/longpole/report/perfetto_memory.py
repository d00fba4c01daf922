"""Memory on a timeline: what is in use and each allocation, and what tensors held through watched steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.analysis.memory_clock import StepClock
from longpole.analysis.memory_inside import watched_step
from longpole.analysis.memory_ledger import ledger_of
from longpole.analysis.memory_results import HOLDERS
from longpole.report.chrome_events import as_json, counter, instant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from longpole.report.perfetto_part import Part


def allocations(part: Part) -> Iterator[bytes]:
    """Memory in use as a counter, and each allocation as Kineto writes it."""
    memory = part.trace.memory
    in_use: dict[int, int] = {}
    host = part.process(0) if part.trace.lanes else part.marks
    rows = zip(
        memory.time_ns.tolist(),
        memory.bytes.tolist(),
        memory.device.tolist(),
        memory.total_allocated.tolist(),
        strict=True,
    )
    for time_ns, size, device, total in rows:
        in_use[device] = total if total >= 0 else in_use.get(device, 0) + size
        name = "memory of the host" if device < 0 else f"memory of device {device}"
        yield counter(name, part.marks, time_ns, {"bytes": in_use[device]})
        args: dict[str, int] = {"Bytes": size, "Device Type": 0 if device < 0 else 1, "Device Id": device}
        args |= {"Total Allocated": total} if total >= 0 else {}
        yield instant("cpu_instant_event", "[memory]", host, time_ns, as_json(args))


def held_by_tensors(part: Part) -> Iterator[bytes]:
    """What tensors held through each watched step, as a stacked counter; times lie within the step."""
    record = part.trace.memory_record
    first = watched_step(part.trace)
    for step in [first, *record.steps[1:]] if record is not None and first is not None else ():
        ledger = ledger_of(step, StepClock(step, {}, None))
        if ledger is None:
            continue
        for time_ns, held in zip(ledger.times_ns.tolist(), ledger.held.tolist(), strict=True):
            figures: dict[str, int] = dict(zip(HOLDERS, held, strict=True))
            yield counter("memory held by tensors", part.marks, step.start_ns + time_ns, figures)
