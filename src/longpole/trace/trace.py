"""A trace: the event table, what its numbers point at, and what was recorded beside events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from longpole.trace.events import EventTable
    from longpole.trace.graph import StepGraph
    from longpole.trace.memory import MemoryRecord


class Lane(msgspec.Struct, frozen=True):
    """One thread or one device stream."""

    name: str
    kind: str  # "host", "stream" or "async"
    process: int = -1
    thread: int = -1  # thread id or stream number
    device: int = -1  # device index; -1 on the host


class Layer(msgspec.Struct, frozen=True):
    """One module of the network. A trace file gives path and type only where frames name them."""

    path: str  # "blocks.3.mlp.fc1"; "" is the outermost module
    type: str = ""
    parent: int = -1  # row of Trace.layers
    container: bool = False
    parameters: int | None = None  # elements of its own parameters, children excluded
    trainable: int | None = None  # of these, elements that require a gradient
    parameter_shapes: tuple[tuple[int, ...], ...] = ()


class StepWindow(msgspec.Struct, frozen=True, gc=False):
    """One turn of the training loop, from the end of the update before to the end of its own."""

    index: int
    start_ns: int
    end_ns: int
    level: int = 0  # longpole.trace.kinds.Level
    first_sequence: int = -1  # autograd sequence number at the start, on the training thread
    batch_size: int | None = None


class RunInfo(msgspec.Struct, frozen=True):
    """Where a trace comes from; None is not known."""

    source: str = "live"  # "live", "kineto", "perfetto"
    script: str | None = None
    argv: tuple[str, ...] = ()
    framework: str | None = None  # "torch 2.13.0"
    device: str | None = None  # "CPU, 2 threads", "NVIDIA H100 80GB HBM3"
    rank: int | None = None
    world_size: int | None = None
    threads: int | None = None
    stopped: str = "window"  # "window", "script end", "interrupt", "error"
    facts: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])  # printed under "conditions"
    warnings: tuple[str, ...] = ()  # whole sentences: what was cut, clipped, not recorded, and why


@dataclass(frozen=True, slots=True)
class LayerCalls:
    """One row a module call marked by longpole; `row` is its event (Kind.LAYER).

    The autograd nodes made inside have sequence numbers `first <= n < last` on autograd thread `thread`.
    """

    row: NDArray[np.int32]
    layer: NDArray[np.int32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Samples:
    """What the sampling thread saw: where the training thread was, at a time."""

    time_ns: NDArray[np.int64]
    loop_line: NDArray[np.int32]  # row of Trace.strings: the line of the training loop, "train.py:41"
    site: NDArray[np.int32]  # row of Trace.strings: the user's innermost line, "train.py:31 in get_batch"
    flow: NDArray[np.uint8]  # Phase that the loop line's dataflow suggests; 0 where none


@dataclass(frozen=True, slots=True)
class GradientOps:
    """Roles of ops inside backward, by the tensors they read, from the steps at Level.GRADIENTS.

    An op is found again in another step by the autograd sequence number of its node, counted from the
    first of the step, its name, and how many of that name came before it in the node.
    """

    sequence: NDArray[np.int64]
    op: NDArray[np.int32]  # row of Trace.strings
    ordinal: NDArray[np.int32]
    role: NDArray[np.uint8]  # longpole.trace.kinds.Role; of the larger part where the op makes both
    weight_share: NDArray[np.float64]  # part of the op's time that makes weight gradients, 0 to 1


@dataclass(frozen=True, slots=True)
class MemoryEvents:
    """Allocations (positive) and frees (negative)."""

    time_ns: NDArray[np.int64]
    bytes: NDArray[np.int64]
    device: NDArray[np.int32]  # -1 is the host
    total_allocated: NDArray[np.int64]  # -1 where the trace does not say


@dataclass(frozen=True, slots=True)
class Collectives:
    """Arguments of collectives, where the trace has them; `row` is a row of the event table."""

    row: NDArray[np.int32]
    operation: NDArray[np.int32]  # row of Trace.strings: "allreduce"
    group: NDArray[np.int32]  # row of Trace.strings: name of the process group
    ranks: NDArray[np.int32]  # size of the group
    message_bytes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EventWaits:
    """Waits for an event recorded on a stream, where the trace has their arguments; `row` is a row of Kind.SYNC."""

    row: NDArray[np.int32]
    record: NDArray[np.int64]  # correlation of the call that recorded the event (`cudaEventRecord`); -1: not known
    stream: NDArray[np.int64]  # the stream it was recorded on, as Lane.thread; -1: not known


def _empty(*dtypes: type[Any]) -> list[NDArray[Any]]:
    return [np.empty(0, dtype) for dtype in dtypes]


def _no_calls() -> LayerCalls:
    return LayerCalls(*_empty(np.int32, np.int32, np.int64, np.int64))


def _no_samples() -> Samples:
    return Samples(*_empty(np.int64, np.int32, np.int32, np.uint8))


def _no_gradients() -> GradientOps:
    return GradientOps(*_empty(np.int64, np.int32, np.int32, np.uint8, np.float64))


def _no_memory() -> MemoryEvents:
    return MemoryEvents(*_empty(np.int64, np.int64, np.int32, np.int64))


def _no_collectives() -> Collectives:
    return Collectives(*_empty(np.int32, np.int32, np.int32, np.int32, np.int64))


def _no_waits() -> EventWaits:
    return EventWaits(*_empty(np.int32, np.int64, np.int64))


@dataclass(frozen=True, slots=True)
class Trace:
    """Recorded events of one rank."""

    events: EventTable
    strings: Sequence[str]
    lanes: Sequence[Lane]
    info: RunInfo
    layers: Sequence[Layer] = ()
    steps: Sequence[StepWindow] = ()
    calls: LayerCalls = field(default_factory=_no_calls)
    samples: Samples = field(default_factory=_no_samples)
    gradients: GradientOps = field(default_factory=_no_gradients)
    saved_bytes: Mapping[int, int] = field(default_factory=dict[int, int])  # row of layers -> bytes held for backward
    memory: MemoryEvents = field(default_factory=_no_memory)
    collectives: Collectives = field(default_factory=_no_collectives)
    waits: EventWaits = field(default_factory=_no_waits)
    graph: StepGraph | None = None  # of one step at Level.GRADIENTS
    memory_record: MemoryRecord | None = None  # of steps at Level.GRADIENTS

    def text(self, index: int) -> str:
        """The interned string, or "" for -1."""
        return self.strings[index] if index >= 0 else ""

    def name_of(self, row: int) -> str:
        return self.strings[int(self.events.name[row])]


class Interner:
    """Gives each different string a small number, in order of first sight."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def strings(self) -> list[str]:
        return list(self._numbers)
