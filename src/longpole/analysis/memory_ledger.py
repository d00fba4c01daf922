"""The ledger of one step's memory: who holds how many bytes at each moment. The holders sum to all that is held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.memory_results import HOLDERS, Holder, MemoryTimeline, PeakAt
from longpole.trace.memory import ALIVE, Owner, SavedKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.analysis.memory_clock import StepClock
    from longpole.trace.memory import StepMemory

MOST_POINTS = 240  # of a timeline
NEAR_NS = 2_000_000  # a reading of RAM this near counts as taken at a moment
OWNERS: Mapping[Owner, str] = {
    Owner.PARAMETER: "parameters",
    Owner.GRADIENT: "gradients",
    Owner.OPTIMIZER: "optimizer",
    Owner.OLDER: "other",
    Owner.RECOMPUTED: "recomputed",
}


@dataclass(frozen=True)
class Spell:
    """A time for which one holder has one storage."""

    holder: int  # index into HOLDERS
    start_ns: int
    end_ns: int
    bytes: int
    storage: int  # -1: none, inside of an operation
    layer: int


def spells_of(memory: StepMemory, clock: StepClock) -> list[Spell]:
    """Each storage of the step by who has it: its owner, but while backward waits for it, `saved`."""
    storages = memory.storages
    waiting = _saved_spans(memory)
    found: list[Spell] = []
    for row, size in enumerate(storages.bytes):
        born, died = storages.born_ns[row], storages.died_ns[row]
        died = clock.end_ns + 1 if died >= ALIVE else max(died, born)
        base, layer = HOLDERS.index(_base(memory, row, clock)), storages.layer[row]
        span = waiting.get(row) if storages.owner[row] == Owner.NOBODY else None
        if span is None:
            found.append(Spell(base, born, died, size, row, layer))
            continue
        start, end, saver = min(max(span[0], born), died), min(max(span[1], born), died), span[2]
        found += [
            Spell(base, born, start, size, row, layer),
            Spell(HOLDERS.index("saved"), start, end, size, row, saver),
            Spell(base, end, died, size, row, layer),
        ]
    return [spell for spell in [*found, *_inside(memory)] if spell.end_ns > spell.start_ns]


def _inside(memory: StepMemory) -> list[Spell]:
    """Of what operations hold inside of themselves it is known how much, not for how long: a moment."""
    at, inside = HOLDERS.index("workspace"), memory.inside
    return [
        Spell(at, time - 1, time, size, -1, layer)
        for time, size, layer in zip(inside.time_ns, inside.bytes, inside.layer, strict=True)
    ]


def _saved_spans(memory: StepMemory) -> dict[int, tuple[int, int, int]]:
    """For each storage: saved first, let go of last, and the layer that saved it first."""
    saved = memory.saved
    found: dict[int, tuple[int, int, int]] = {}
    for row, storage in enumerate(saved.storage):
        if saved.kind[row] == SavedKind.WEIGHT:
            continue
        start, end = saved.saved_ns[row], saved.freed_ns[row]
        before = found.get(storage)
        found[storage] = (
            (start, end, saved.layer[row]) if before is None else (before[0], max(before[1], end), before[2])
        )
    return found


def _base(memory: StepMemory, row: int, clock: StepClock) -> str:
    storages = memory.storages
    owner = Owner(storages.owner[row])
    if owner in OWNERS:
        return OWNERS[owner]
    is_outside = storages.layer[row] < 0 and clock.is_input_time(storages.born_ns[row])
    return "inputs" if is_outside else "temporaries"


@dataclass(frozen=True)
class MemoryLedger:
    """Moments at which something changed, and what each holder has from then on: (moments, holders) bytes."""

    times_ns: NDArray[np.int64]
    held: NDArray[np.int64]
    spells: Sequence[Spell]

    @property
    def totals(self) -> NDArray[np.int64]:
        return self.held.sum(axis=1)

    @property
    def peak_row(self) -> int:
        return int(np.argmax(self.totals))

    @property
    def peak_bytes(self) -> int:
        return int(self.totals.max())


def ledger_of(memory: StepMemory, clock: StepClock) -> MemoryLedger | None:
    """None where the step had no storage."""
    spells = spells_of(memory, clock)
    if not spells:
        return None
    starts = np.array([max(spell.start_ns, 0) for spell in spells], dtype=np.int64)
    ends = np.array([spell.end_ns for spell in spells], dtype=np.int64)
    sizes = np.array([spell.bytes for spell in spells], dtype=np.int64)
    holders = np.array([spell.holder for spell in spells])
    times = np.unique(np.concatenate([starts, ends[ends <= clock.end_ns]]))
    change = np.zeros((len(times), len(HOLDERS)), dtype=np.int64)
    np.add.at(change, (np.searchsorted(times, starts), holders), sizes)
    ending = ends <= clock.end_ns
    np.subtract.at(change, (np.searchsorted(times, ends[ending]), holders[ending]), sizes[ending])
    return MemoryLedger(times, change.cumsum(axis=0), spells)


def peak_of(ledger: MemoryLedger, memory: StepMemory, clock: StepClock, layers: Sequence[str]) -> PeakAt:
    """When, and whose operation allocated last before it."""
    time = int(ledger.times_ns[ledger.peak_row])
    layer, op = _last_of(memory, time)
    return PeakAt(
        step=memory.step,
        phase=clock.phase_at(time),
        ms=clock.ms([time])[0],
        layer=layers[layer] if layer >= 0 else None,
        op=op.removeprefix("aten::") or None,
    )


def _last_of(memory: StepMemory, time: int) -> tuple[int, str]:
    """Layer and operation that allocated last."""
    storages, inside = memory.storages, memory.inside
    if time + 1 in inside.time_ns:
        row = inside.time_ns.index(time + 1)
        return inside.layer[row], inside.op[row]
    born = [row for row, at in enumerate(storages.born_ns) if 0 <= at <= time]
    last = max(born, key=lambda row: storages.born_ns[row], default=-1)
    return (storages.layer[last], storages.op[last]) if last >= 0 else (-1, "")


def holders_of(ledger: MemoryLedger, layers: Sequence[str]) -> list[Holder]:
    """Who holds what at the peak, the largest first; they sum to it."""
    time = int(ledger.times_ns[ledger.peak_row])
    sums: dict[tuple[int, int], int] = {}
    for spell in ledger.spells:
        if max(spell.start_ns, 0) <= time < spell.end_ns:
            key = (spell.holder, spell.layer)
            sums[key] = sums.get(key, 0) + spell.bytes
    found = [
        Holder(HOLDERS[holder], size, layers[layer] if layer >= 0 else None) for (holder, layer), size in sums.items()
    ]
    return sorted(found, key=lambda holder: (-holder.bytes, holder.kind, holder.layer or ""))


def timeline_of(ledger: MemoryLedger, memory: StepMemory, clock: StepClock) -> MemoryTimeline:
    """At most MOST_POINTS moments: of each stretch of time the one with the most."""
    rows = _thinned(ledger, clock.end_ns)
    times: list[int] = ledger.times_ns[rows].tolist()
    held = ledger.held[rows]
    return MemoryTimeline(
        ms=clock.ms(times),
        phase=[clock.phase_at(time) for time in times],
        bytes={name: held[:, at].tolist() for at, name in enumerate(HOLDERS) if held[:, at].any()},
        resident_bytes=[resident_at(memory, time) for time in times],
    )


def _thinned(ledger: MemoryLedger, end_ns: int) -> NDArray[np.intp]:
    times, totals = ledger.times_ns, ledger.totals
    if len(times) <= MOST_POINTS:
        return np.arange(len(times))
    buckets = np.minimum(times * MOST_POINTS // (end_ns + 1), MOST_POINTS - 1)
    order = np.lexsort((-totals, buckets))
    first = np.concatenate([[True], np.diff(buckets[order]) > 0])
    return np.unique(np.concatenate([order[first], [ledger.peak_row]]))


def resident_at(memory: StepMemory, time_ns: int) -> int | None:
    """What the process held nearest to a moment; None where nobody looked near it."""
    readings = memory.readings
    rows = [row for row, size in enumerate(readings.resident_bytes) if size >= 0]
    if not rows:
        return None
    at = min(rows, key=lambda row: abs(readings.time_ns[row] - time_ns))
    return readings.resident_bytes[at] if abs(readings.time_ns[at] - time_ns) <= NEAR_NS else None
