"""From what was recorded of memory to the study's account of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.analysis.memory_clock import StepClock
from longpole.analysis.memory_inside import allocator_peak, watched_step
from longpole.analysis.memory_ledger import holders_of, ledger_of, peak_of, resident_at, timeline_of
from longpole.analysis.memory_results import HOLDERS, Growth, Holder, ResidentPart
from longpole.analysis.memory_saved import held_storages, mean_held_ms, parts_of, saved_by_layer
from longpole.trace.memory import Owner, SavedKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.memory_ledger import MemoryLedger
    from longpole.analysis.memory_saved import Held
    from longpole.analysis.study import LayerTime, Memory, Study
    from longpole.trace.memory import Grown, StepMemory
    from longpole.trace.trace import Layer, Trace

MOST_HOLDERS = 60


def add_memory(found: Study, trace: Trace) -> None:
    """Completes `found.memory` and the memory of its layers from the trace's record, where there is one.

    The record's first step is the one shown; a later one only tells growth from a cache that fills once.
    """
    record = trace.memory_record
    if record is None:
        return
    memory = found.memory
    names = [layer.path or layer.type for layer in trace.layers]
    memory.growth = [_growth(grown, names) for grown in record.grown]
    memory.measuring_ms = (sum(step.spent_ns for step in record.steps) + record.census_ns) / 1e6
    memory.measured_steps = len(record.steps)
    known = {step.index for step in trace.steps}
    step = watched_step(trace)
    if step is None or step.step not in known:
        return
    clock = StepClock(step, {phase.phase: phase.ms for phase in found.phases}, found.step.wall_ms.mean)
    ledger = ledger_of(step, clock) if not step.saved_only else None
    if step.saved_only:
        memory.measured_peak_bytes = memory.peak_bytes = allocator_peak(trace)
    if ledger is not None:
        _ledger(memory, step, clock, ledger, names)
        if memory.measured_peak_bytes is None:
            memory.measured_peak_bytes = allocator_peak(trace)
    _saved(found, trace.layers, set(trace.calls.layer.tolist()), step, clock)
    memory.notes = list(step.notes)


def _ledger(memory: Memory, step: StepMemory, clock: StepClock, ledger: MemoryLedger, names: Sequence[str]) -> None:
    memory.peak_bytes = ledger.peak_bytes
    memory.peak_at = peak_of(ledger, step, clock, names)
    memory.holders = _few(holders_of(ledger, names))
    memory.timeline = timeline_of(ledger, step, clock)
    memory.measured_peak_bytes = step.measured_peak_bytes if step.measured_peak_bytes >= 0 else None
    owners = step.storages.owner
    for name, owner in (
        ("parameters_bytes", Owner.PARAMETER),
        ("gradients_bytes", Owner.GRADIENT),
        ("optimizer_bytes", Owner.OPTIMIZER),
    ):
        if getattr(memory, name) is None and owner in owners:
            setattr(memory, name, _most_at_once(ledger, name.removesuffix("_bytes")))
    _resident(memory, step, ledger)


def _few(holders: list[Holder]) -> list[Holder]:
    """The largest, and the rest by kind: they still sum to the peak."""
    rest: dict[str, int] = {}
    for holder in holders[MOST_HOLDERS:]:
        rest[holder.kind] = rest.get(holder.kind, 0) + holder.bytes
    return holders[:MOST_HOLDERS] + [Holder(kind, size, "(smaller layers)") for kind, size in rest.items()]


def _most_at_once(ledger: MemoryLedger, name: str) -> int:
    return int(ledger.held[:, HOLDERS.index(name)].max())


def _saved(found: Study, layers: Sequence[Layer], called: set[int], step: StepMemory, clock: StepClock) -> None:
    memory = found.memory
    held = held_storages(step, clock)
    memory.saved_bytes = sum(one.bytes for one in held.values())
    weights = {
        storage for storage, kind in zip(step.saved.storage, step.saved.kind, strict=True) if kind == SavedKind.WEIGHT
    }
    memory.weights_saved_bytes = sum(step.storages.bytes[storage] for storage in weights)
    if [layer.layer for layer in found.layers] != [layer.path for layer in layers]:
        return  # the study has other layers, or none
    memory.saved_by_layer = saved_by_layer(step, held, [layer.parent for layer in layers], called)
    by_layer: dict[int, list[Held]] = {}
    for one in held.values():
        by_layer.setdefault(one.layer, []).append(one)
    for row, layer in enumerate(found.layers):
        _layer(layer, by_layer.get(row, []))


def _layer(layer: LayerTime, held: list[Held]) -> None:
    layer.saved_ms = mean_held_ms(held)
    layer.saved_parts = parts_of(held)


def _resident(memory: Memory, step: StepMemory, ledger: MemoryLedger) -> None:
    """What the process holds at the peak, in parts that sum to it; the last part is what nobody can name."""
    resident = resident_at(step, int(ledger.times_ns[ledger.peak_row]))
    parts = step.resident
    memory.resident_bytes = resident
    if resident is None or "device_allocated" in parts:
        return  # tensors are on the device, and the process's RAM is another matter
    found = [ResidentPart("tensors", ledger.peak_bytes, "the ledger's sum")]
    if "files" in parts:
        found.append(ResidentPart("program and libraries", parts["files"], "files mapped into the process"))
    if "malloc_used" in parts:
        others = max(parts["malloc_used"] - int(ledger.totals[-1]), 0)
        how = "handed out by the C library, less tensors"
        found.append(ResidentPart("other objects, kernels' workspace", others, how))
    rest = resident - sum(part.bytes or 0 for part in found)
    if "malloc_free" in parts and rest > 0:
        cached = min(parts["malloc_free"], rest)
        found.append(ResidentPart("kept by the allocator for later", cached, "free blocks of the C library"))
        rest -= cached
    how = "not known: Python's own objects, stacks" if rest >= 0 else "allocated and not touched, so not in RAM"
    memory.resident_parts = [*found, ResidentPart("unexplained", rest, how)]
    memory.unexplained_bytes = rest


def _growth(grown: Grown, names: Sequence[str]) -> Growth:
    layer = names[grown.layer] if 0 <= grown.layer < len(names) else None
    bytes_per_step = grown.bytes // grown.followed if grown.followed else None
    kept = (
        f"{grown.holder} keeps tensors of {grown.steps} steps" if grown.steps > 1 else f"{grown.holder} keeps tensors"
    )
    graph = f", and with them {grown.graph_nodes:,} nodes of their graphs" if grown.graph_nodes else ""
    place = f"{grown.where}: {grown.line}" if grown.where else "the line that does it was not found"
    advice = " Keep loss.item() or .detach() instead." if grown.graph_nodes else ""
    return Growth(
        sentence=f"Memory grows by step: {kept}{graph} ({place}).{advice}",
        where=grown.where or None,
        line=grown.line or None,
        holder=grown.holder or None,
        layer=layer,
        op=grown.op or None,
        bytes_per_step=bytes_per_step,
        tensors_per_step=None,
        graph_nodes=grown.graph_nodes or None,
        steps=grown.steps,
    )
