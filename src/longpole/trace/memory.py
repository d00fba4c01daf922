"""Memory of one step as it was recorded: storages with their lives, what was saved for backward, readings of RAM.

Columns are plain lists: a step has thousands of rows, not millions. Times are of the clock of the marks less what
looking itself took, so that a step is nearly as long as one that nobody looked at.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec

from longpole.trace.kinds import Phase

ALIVE = 1 << 62  # died_ns of what outlived the recording
MOST_ROWS = 1 << 20  # of one table: more is cut, and said


class Owner(IntEnum):
    """Who owns a storage, as found at the edges of the step. Values are stored in files: append only."""

    NOBODY = 0  # born in the step, and none of the below
    PARAMETER = 1  # parameters and buffers
    GRADIENT = 2
    OPTIMIZER = 3
    OLDER = 4  # was there before the step: data sets, caches, the script's own
    RECOMPUTED = 5  # made by a forward that runs again inside backward


class SavedKind(IntEnum):
    """What a saved tensor is to the operation that saved it. Append only."""

    OTHER = 0
    INPUT = 1
    OUTPUT = 2
    WEIGHT = 3  # a parameter or buffer, or a view of one: there anyway
    MASK = 4  # of booleans or indices, made by the operation
    STATISTICS = 5  # a further output of floats: means, deviations, log-sum-exp
    WEIGHT_COPY = 6  # a parameter in another type, by autocast


class Storages(msgspec.Struct):
    """One row a storage. `layer` is a row of Trace.layers, -1 in none."""

    bytes: list[int] = []
    born_ns: list[int] = []  # before the start of the step for what was there
    died_ns: list[int] = []  # ALIVE where it outlived the step
    owner: list[int] = []  # Owner
    layer: list[int] = []  # in whose forward or backward it was made
    op: list[str] = []  # that made it; "" where not known


class Saved(msgspec.Struct):
    """One row a tensor saved for backward. Several rows may be of one storage."""

    storage: list[int] = []  # row of Storages
    bytes: list[int] = []  # of the storage that this tensor keeps: all of it if born in the step, else its own extent
    saved_ns: list[int] = []
    used_ns: list[int] = []  # the last time it was asked for; -1 where never
    freed_ns: list[int] = []  # when the graph let go of it; ALIVE where it did not in the step
    layer: list[int] = []
    op: list[str] = []
    kind: list[int] = []  # SavedKind
    again: list[bool] = []  # saved by a forward that runs again inside backward


class Boundary(msgspec.Struct):
    """Storages that the calls of a module, containers too, read and did not make. Parameters are left out."""

    layer: list[int] = []
    storage: list[int] = []


class Readings(msgspec.Struct):
    """What the process, or the device's allocator, held at a time. -1 is not known."""

    time_ns: list[int] = []
    resident_bytes: list[int] = []
    device_bytes: list[int] = []


class Grown(msgspec.Struct):
    """Tensors of earlier steps still alive at the end of the window, kept by one holder."""

    holder: str = ""
    where: str = ""
    line: str = ""
    layer: int = -1
    op: str = ""
    bytes: int = 0  # of all storages so kept that were followed
    followed: int = 0  # steps whose storages were followed
    tensors: int = 0
    graph_nodes: int = 0
    steps: int = 0  # different steps from which something is kept


class Calls(msgspec.Struct):
    """The step's calls of operations, in order. In files since 2026-11: older ones have none."""

    op: list[str] = []
    end_ns: list[int] = []
    layer: list[int] = []


class Inside(msgspec.Struct):
    """What operations held inside of themselves, for a moment, with their results; before `time_ns`, when they end."""

    time_ns: list[int] = []
    bytes: list[int] = []
    layer: list[int] = []
    op: list[str] = []


class Allocations(msgspec.Struct):
    """The allocator's own events in one step whose operations were recorded: taken (positive), given back."""

    step: int
    time_ns: list[int] = []  # on the clock of the marks
    bytes: list[int] = []
    is_whole: bool = False  # else what was taken before the recording is given back unseen


class StepMemory(msgspec.Struct):
    """Memory of one step."""

    step: int
    start_ns: int  # on the clock of the marks
    end_ns: int
    spent_ns: int  # what looking took, in the step and at its edges
    length_ns: int  # of the step without what looking took: the last time possible in here
    storages: Storages = msgspec.field(default_factory=Storages)
    saved: Saved = msgspec.field(default_factory=Saved)
    boundary: Boundary = msgspec.field(default_factory=Boundary)
    readings: Readings = msgspec.field(default_factory=Readings)
    marks: list[tuple[int, int, int]] = []  # phase, start, end on the clock of this record
    resident: dict[str, int] = {}  # parts of the process's memory at the end of the step
    notes: list[str] = []  # whole sentences: what could not be seen
    measured_peak_bytes: int = -1  # by the device's allocator
    calls: Calls = msgspec.field(default_factory=Calls)
    saved_only: bool = False  # compiled code: of what operations make and free nothing is known
    inside: Inside = msgspec.field(default_factory=Inside)  # not recorded: from `calls` and Allocations


class MemoryRecord(msgspec.Struct):
    """All that a run recorded of memory."""

    steps: list[StepMemory] = []
    grown: list[Grown] = []
    census_ns: int = 0  # what looking for growth took, at the end of the window
    allocations: Allocations | None = None


def saved_by_layer(memory: StepMemory) -> dict[int, int]:
    """Bytes that each layer keeps for backward; a storage belongs to the first layer that saved it.

    Parameters and buffers are left out, and what a second forward inside backward saves.
    """
    found: dict[int, int] = {}
    for row, size in owned_rows(memory.saved).items():
        layer = memory.saved.layer[row]
        found[layer] = found.get(layer, 0) + size
    return found


def owned_rows(saved: Saved) -> dict[int, int]:
    """For each storage saved in forward the row that saved it first, and its bytes: the widest of its rows."""
    first: dict[int, int] = {}
    size: dict[int, int] = {}
    for row, storage in enumerate(saved.storage):
        if saved.kind[row] != SavedKind.WEIGHT and not saved.again[row]:
            first.setdefault(storage, row)
            size[storage] = max(size.get(storage, 0), saved.bytes[row])
    return {row: size[storage] for storage, row in first.items()}


STORAGE_COLUMNS = ("bytes", "born_ns", "died_ns", "owner", "layer", "op")
SAVED_COLUMNS = ("storage", "bytes", "saved_ns", "used_ns", "freed_ns", "layer", "op", "kind", "again")
FAR = 1 << 61


def check_memory(record: MemoryRecord, layers: int) -> None:
    """Raises ValueError where columns do not fit together, or a number points nowhere or makes no sense."""
    for grown in record.grown:
        counts = (grown.bytes, grown.followed, grown.tensors, grown.graph_nodes, grown.steps)
        if not -1 <= grown.layer < layers or not all(0 <= count < FAR for count in counts):
            raise ValueError("growth is impossible")
    for step in record.steps:
        _check_step(step, layers)
    if not 0 <= record.census_ns < FAR:
        raise ValueError("the time of the census is impossible")
    if record.allocations is not None:
        _check_allocations(record.allocations)


def _check_allocations(found: Allocations) -> None:
    _length([found.time_ns, found.bytes])
    _within(found.time_ns, -FAR, FAR)
    if sum(map(abs, found.bytes)) >= FAR or found.step < 0:
        raise ValueError("allocations are impossible")


def _check_step(step: StepMemory, layers: int) -> None:
    storages, saved, boundary, readings = step.storages, step.saved, step.boundary, step.readings
    count = _length([getattr(storages, name) for name in STORAGE_COLUMNS])
    _length([getattr(saved, name) for name in SAVED_COLUMNS])
    _length([boundary.layer, boundary.storage])
    _length([step.calls.op, step.calls.end_ns, step.calls.layer])
    _length([step.inside.time_ns, step.inside.bytes, step.inside.layer, step.inside.op])
    _length([readings.time_ns, readings.resident_bytes, readings.device_bytes])
    _within(storages.bytes, 0, FAR)
    _within(storages.owner, 0, max(Owner))
    _within(saved.kind, 0, max(SavedKind))
    _within(saved.bytes, 0, FAR)
    for rows in (saved.storage, boundary.storage):
        _within(rows, 0, count - 1)
    for rows in (storages.layer, saved.layer, boundary.layer, step.calls.layer, step.inside.layer):
        _within(rows, -1, layers - 1)
    for times in (storages.born_ns, storages.died_ns, saved.saved_ns, saved.used_ns, saved.freed_ns, readings.time_ns):
        _within([time for time in times if time != ALIVE], -1, FAR)
    _within([step.step, step.spent_ns, step.length_ns, *step.calls.end_ns, *step.inside.time_ns], 0, FAR)
    _within(step.inside.bytes, 0, FAR)
    _within([step.start_ns, step.end_ns], -FAR, FAR)
    _within(
        [*readings.resident_bytes, *readings.device_bytes, step.measured_peak_bytes, *step.resident.values()], -1, FAR
    )
    for phase, start, end in step.marks:
        _within([phase], 0, max(Phase))
        _within([start, end], 0, FAR)
    if sum(storages.bytes) >= FAR or sum(saved.bytes) >= FAR:
        raise ValueError("more bytes than there can be")


def _length(columns: list[list[Any]]) -> int:
    lengths = {len(column) for column in columns}
    if len(lengths) != 1 or lengths.pop() > MOST_ROWS:
        raise ValueError("columns of memory do not fit together")
    return len(columns[0])


def _within(values: list[int], low: int, high: int) -> None:
    if values and not (low <= min(values) and max(values) <= high):
        raise ValueError("memory is out of its range")
