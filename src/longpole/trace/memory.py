"""Memory of one step as it was recorded: storages with their lives, what was saved for backward, readings of RAM.

Columns are plain lists: a step has thousands of rows, not millions. Times are of the clock of the marks less what
looking itself took, so that a step is nearly as long as one that nobody looked at.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

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


class StepMemory(msgspec.Struct):
    """Memory of one step."""

    step: int
    start_ns: int  # on the clock of the marks
    end_ns: int
    spent_ns: int  # looking, taken off the times in here: end_ns - start_ns - spent_ns is the last time possible
    storages: Storages = msgspec.field(default_factory=Storages)
    saved: Saved = msgspec.field(default_factory=Saved)
    boundary: Boundary = msgspec.field(default_factory=Boundary)
    readings: Readings = msgspec.field(default_factory=Readings)
    marks: list[tuple[int, int, int]] = []  # phase, start, end on the clock of this record
    resident: dict[str, int] = {}  # parts of the process's memory at the end of the step
    notes: list[str] = []  # whole sentences: what could not be seen
    measured_peak_bytes: int = -1  # by the device's allocator


class MemoryRecord(msgspec.Struct):
    """All that a run recorded of memory."""

    steps: list[StepMemory] = []
    grown: list[Grown] = []
    census_ns: int = 0  # what looking for growth took, at the end of the window
