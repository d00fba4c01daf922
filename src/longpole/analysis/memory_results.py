"""What a Study says of memory: who holds how many bytes, when, and for how long. Parts of the stable JSON.

Bytes are of storages: views and aliases count once. Times are milliseconds of the true step, since its start.
"""

from __future__ import annotations

import msgspec

# Who holds a storage, in the order of pictures. They sum to all that tensors hold.
HOLDERS = ("parameters", "gradients", "optimizer", "inputs", "saved", "recomputed", "temporaries", "workspace", "other")


class PeakAt(msgspec.Struct):
    """The moment at which tensors hold the most."""

    step: int
    phase: str
    ms: float | None = None
    layer: str | None = None  # whose operation allocated the last of it; None where it is in no layer
    op: str | None = None


class Holder(msgspec.Struct):
    """What is held at the peak, by kind and by layer; these sum to `peak_bytes`."""

    kind: str  # one of HOLDERS
    bytes: int
    layer: str | None = None  # None: no layer's own


class MemoryTimeline(msgspec.Struct):
    """Bytes held through one step; a row is a moment, a column as long as `ms`. The rows are thinned, the peak kept."""

    ms: list[float] = []
    phase: list[str] = []
    bytes: dict[str, list[int]] = {}  # by HOLDERS
    resident_bytes: list[int | None] = []  # of the process, where it was looked at near that moment


class SavedPart(msgspec.Struct):
    """What a layer keeps for backward, of one operation and one sort."""

    op: str  # the operation whose backward asked for it: addmm
    kind: str  # input | output | mask | statistics | other; weights are never among these
    bytes: int
    tensors: int
    held_ms: float | None = None  # from saved to last used, weighted by bytes; None where never used


class SavedByLayer(msgspec.Struct):
    """What the calls of one module, children included, keep for backward. `layer` is a row of `layers`.

    Checkpointing it would free `freed_bytes`; it would still keep `boundary_bytes`, its inputs, of which
    `boundary_new_bytes` are kept by nobody now. Storages that others outside keep too are not freed.
    """

    layer: int
    bytes: int  # of storages that anything inside saves, each once, parameters apart
    freed_bytes: int
    boundary_bytes: int
    boundary_new_bytes: int = 0
    held_ms: float | None = None  # from saved to last used, weighted by bytes
    byte_ms: float | None = None  # sum over storages of bytes times the time held
    recomputed: bool = False  # checkpointed by the script already


class ResidentPart(msgspec.Struct):
    """A part of what the process holds in RAM; bytes None is not known."""

    part: str
    bytes: int | None
    how: str = ""  # where the figure comes from


class Growth(msgspec.Struct):
    """Memory that later steps never give back."""

    sentence: str
    where: str | None = None  # "train.py:41": the line that keeps it
    line: str | None = None  # its text
    holder: str | None = None  # "list `losses`"
    layer: str | None = None  # that made what is kept
    op: str | None = None
    bytes_per_step: int | None = None
    tensors_per_step: float | None = None
    graph_nodes: int | None = None  # autograd nodes kept alive at the end of the window
    steps: int = 0  # turns of the loop over which it was seen
