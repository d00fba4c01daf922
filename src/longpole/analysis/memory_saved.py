"""What each layer keeps for backward and for how long, and what giving it back by checkpointing would leave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from longpole.analysis.memory_results import SavedByLayer, SavedPart
from longpole.trace.memory import Owner, SavedKind, owned_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from longpole.analysis.memory_clock import StepClock
    from longpole.trace.memory import StepMemory

WORDS = {
    SavedKind.INPUT: "input",
    SavedKind.OUTPUT: "output",
    SavedKind.MASK: "mask",
    SavedKind.STATISTICS: "statistics",
    SavedKind.WEIGHT_COPY: "weight copy",
}


@dataclass
class Held:
    """A storage kept for backward: its bytes, and from when to when in milliseconds."""

    bytes: int
    start_ms: float
    end_ms: float | None  # None where backward never asked for it
    layer: int
    op: str
    kind: str


def held_storages(memory: StepMemory, clock: StepClock) -> dict[int, Held]:
    """By storage, parameters and second forwards left out; each belongs to the layer that saved it first."""
    saved = memory.saved
    last_used: dict[int, int] = {}
    for storage, used, again in zip(saved.storage, saved.used_ns, saved.again, strict=True):
        if not again:
            last_used[storage] = max(last_used.get(storage, -1), used)
    found: dict[int, Held] = {}
    for row, size in owned_rows(saved).items():
        storage = saved.storage[row]
        used = last_used[storage]
        start, end = clock.ms([saved.saved_ns[row], max(used, 0)])
        kind = WORDS.get(SavedKind(saved.kind[row]), "other")
        found[storage] = Held(size, start, end if used >= 0 else None, saved.layer[row], saved.op[row], kind)
    return found


def mean_held_ms(held: Sequence[Held]) -> float | None:
    """From saved to last used, weighted by bytes; None where nothing was used."""
    used = [(one.bytes, one.end_ms - one.start_ms) for one in held if one.end_ms is not None]
    whole = sum(size for size, _ in used)
    return sum(size * ms for size, ms in used) / whole if whole else None


def parts_of(held: Sequence[Held]) -> list[SavedPart]:
    """By operation and sort, the largest first; they sum to all of it."""
    groups: dict[tuple[str, str], list[Held]] = {}
    for one in held:
        groups.setdefault((one.op, one.kind), []).append(one)
    parts = [
        SavedPart(op, kind, sum(one.bytes for one in group), len(group), mean_held_ms(group))
        for (op, kind), group in groups.items()
    ]
    return sorted(parts, key=lambda part: (-part.bytes, part.op, part.kind))


@dataclass
class _Inside:
    """Storages that anything in a module saves: how many rows of each."""

    rows: dict[int, int] = field(default_factory=dict[int, int])
    recomputed: bool = False


def saved_by_layer(
    memory: StepMemory, held: dict[int, Held], parents: Sequence[int], called: set[int]
) -> list[SavedByLayer]:
    """For each module called that saves something or is recomputed, containers too. `parents` are rows of layers."""
    saved, storages = memory.saved, memory.storages
    inside: dict[int, _Inside] = {}
    everywhere: dict[int, int] = {}
    for row, storage in enumerate(saved.storage):
        if storage in held and not saved.again[row] and saved.kind[row] != SavedKind.WEIGHT:
            everywhere[storage] = everywhere.get(storage, 0) + 1
            for layer in _upwards(saved.layer[row], parents):
                rows = inside.setdefault(layer, _Inside()).rows
                rows[storage] = rows.get(storage, 0) + 1
    for row, owner in enumerate(storages.owner):
        if owner == Owner.RECOMPUTED:
            for layer in _upwards(storages.layer[row], parents):
                inside.setdefault(layer, _Inside()).recomputed = True
    bounds: dict[int, set[int]] = {}
    for layer, storage in zip(memory.boundary.layer, memory.boundary.storage, strict=True):
        bounds.setdefault(layer, set()).add(storage)
    return [
        _one(layer, inside[layer], everywhere, bounds.get(layer, set()), memory, held)
        for layer in sorted(inside.keys() & called)
    ]


def _upwards(layer: int, parents: Sequence[int]) -> Iterator[int]:
    while layer >= 0:
        yield layer
        layer = parents[layer]


def _one(
    layer: int, inside: _Inside, everywhere: dict[int, int], bounds: set[int], memory: StepMemory, held: dict[int, Held]
) -> SavedByLayer:
    kept = [held[storage] for storage in inside.rows]
    freed = [
        held[storage].bytes
        for storage, rows in inside.rows.items()
        if rows == everywhere[storage] and storage not in bounds
    ]
    storages = memory.storages
    # What was there before the step stays there, saved or not.
    new = {storage for storage in bounds if storage not in held and storages.born_ns[storage] >= 0}
    known = sum(held[storage].bytes for storage in bounds if storage in held)
    added = sum(storages.bytes[storage] for storage in new)
    byte_ms = [one.bytes * (one.end_ms - one.start_ms) for one in kept if one.end_ms is not None]
    return SavedByLayer(
        layer=layer,
        bytes=sum(one.bytes for one in kept),
        freed_bytes=sum(freed),
        boundary_bytes=known + added,
        boundary_new_bytes=added,
        held_ms=mean_held_ms(kept),
        byte_ms=sum(byte_ms) if byte_ms else None,
        recomputed=inside.recomputed,
    )
