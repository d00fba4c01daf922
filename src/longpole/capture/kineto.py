"""Level 2: torch's own profiler, started and stopped between steps, read without its event lists.

`EventList` and `key_averages` cost more than the recording and are never built; the raw results are read
into columns, on the clock of the marks.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.profiler import profile

from longpole.capture import internals
from longpole.capture.allocations import MEMORY, QuietFrees, sizes_of
from longpole.capture.event_kinds import ON_DEVICE, kind_of
from longpole.capture.patches import Patches
from longpole.trace.build import events_piece
from longpole.trace.clock import monotonic_ns
from longpole.trace.kinds import Kind
from longpole.trace.trace import Lane

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from longpole.trace.build import Piece, TraceBuilder

NEED_VALUES = ("conv", "attention", "pool", "rnn", "lstm", "norm", "mm_backward")
NOISE = (b"USDT:", b"ERROR: External init callback must run in same thread")  # the second: no main thread
ACCUMULATE = 1 << 62


class KinetoBlock:
    """One recording over whole steps. `start` returns False where somebody else is already profiling.

    torch has one profiler for a process. Between `watch` and `unwatch` a script's own comes first: where it is
    prepared or running we do not start, and where it comes while ours runs, ours is dropped at once.
    """

    def __init__(self, *, shapes: bool = True) -> None:
        self._shapes = shapes
        self._profiler: Any = None
        self._offset_ns = 0
        self._patches = Patches()
        self._frees = QuietFrees()
        self.allocations: list[tuple[int, int]] = []  # time, bytes, as last read
        self._others: set[int] = set()  # identities of the script's own profilers, from prepared to stopped

    def watch(self) -> None:
        prepare, leave = internals.prepare_profiler, profile.__exit__

        @functools.wraps(prepare)
        def longpole_prepare(profiler: Any) -> Any:
            if profiler is not self._profiler:
                self.drop()
                self._others.add(id(profiler))
            return prepare(profiler)

        @functools.wraps(leave)
        def longpole_exit(profiler: Any, *details: Any) -> Any:
            self._others.discard(id(profiler))
            return leave(profiler, *details)

        # One with a schedule is the script's from its start on: where it began to record after us, ranges that
        # were opened in our recording would end in its, and torch writes to freed memory then.
        begin, end = torch.profiler.profile.start, torch.profiler.profile.stop

        @functools.wraps(begin)
        def longpole_start(profiler: Any) -> Any:
            self.drop()
            self._others.add(id(profiler))
            return begin(profiler)

        @functools.wraps(end)
        def longpole_stop(profiler: Any) -> Any:
            self._others.discard(id(profiler))
            return end(profiler)

        self._patches.set(torch.profiler.profile, "start", longpole_start)
        self._patches.set(torch.profiler.profile, "stop", longpole_stop)
        self._patches.set(profile, "_prepare_trace", longpole_prepare)
        self._patches.set(profile, "__exit__", longpole_exit)

    def unwatch(self) -> None:
        self._patches.undo()

    def drop(self) -> None:
        """Ends a recording that nobody will read."""
        if self._profiler is not None:
            self._profiler = None
            with quiet_stderr():
                internals.stop_profiler()
            internals.after_profiler()
            self._frees.stop()

    def is_taken(self) -> bool:
        """Whether somebody else's profiler is there."""
        return bool(self._others) or internals.is_profiling()

    def start(self) -> bool:
        if self.is_taken():
            return False
        self._profiler = profile(
            use_cpu=True,
            use_device=_device(),
            record_shapes=self._shapes,
            profile_memory=self._frees.can,
            use_kineto=True,
        )
        self._frees.start()
        with quiet_stderr():
            self._profiler._prepare_trace()
            internals.start_profiler(self._profiler)
        self._offset_ns = _offset()
        return True

    def stop(self) -> Any:
        """Ends the recording; the raw results, to be read when there is time."""
        device = _device()
        if device is not None:
            getattr(torch, device).synchronize()
        self._offset_ns = (self._offset_ns + _offset()) // 2
        with quiet_stderr():
            results = internals.stop_profiler()
        internals.after_profiler()
        self._frees.stop()
        self._profiler = None
        return results

    @property
    def running(self) -> bool:
        return self._profiler is not None

    def read(self, results: Any, builder: TraceBuilder, thread_lane: int) -> Piece:
        """Columns of the recorded events. `thread_lane` is the lane of the training thread."""
        events = results.events()
        self.allocations = sizes_of(events, self._offset_ns)
        told = [event for event in events if event.name() != MEMORY]
        return _Reader(builder, self._offset_ns, thread_lane, shapes=self._shapes).read(told)


def _sequence(event: Any) -> int:
    """AccumulateGrad has the largest number there is, so that it runs first; it is no place in the order."""
    found = event.sequence_nr()
    return found if found < ACCUMULATE else -1


def event_cost_ns(block: KinetoBlock, calls: int = 300) -> float | None:
    """What recording one op costs here and now: a tiny op in a loop, recorded less unrecorded, fastest of each.

    None where the script would notice: it has a profiler or a dispatch mode of its own.
    """
    if block.is_taken() or internals.dispatch_modes():
        return None
    tensor = torch.zeros(1)

    def loop() -> int:
        start = monotonic_ns()
        for _ in range(calls):
            tensor.neg_()
        return monotonic_ns() - start

    with torch.no_grad():
        bare = min(loop() for _ in range(5))
        block.start()
        recorded = min(loop() for _ in range(5))
        block.stop()
    return max(recorded - bare, 0) / calls


def _device() -> str | None:
    if torch.cuda.is_initialized():
        return "cuda"
    xpu = getattr(torch, "xpu", None)
    return "xpu" if xpu is not None and xpu.is_initialized() else None


def _offset() -> int:
    """Nanoseconds from the clock of the marks to Kineto's, which counts from 1970."""
    before = monotonic_ns()
    now = time.time_ns()
    return now - (before + monotonic_ns()) // 2


class _Reader:
    def __init__(self, builder: TraceBuilder, offset_ns: int, thread_lane: int, *, shapes: bool) -> None:
        self._builder = builder
        self._offset_ns = offset_ns
        self._thread_lane = thread_lane
        self._shapes = shapes
        self._lanes: dict[tuple[int, int, int], int] = {}
        self._texts: dict[str, int] = {}

    def read(self, events: Sequence[Any]) -> Piece:
        main_thread = _busiest_thread(events)
        rows = [self._row(event, main_thread) for event in events]
        names = ("start_ns", "duration_ns", "name", "kind", "lane", "correlation", "sequence", "forward_thread")
        columns: dict[str, Any] = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
        if self._shapes and rows:
            columns["shapes"] = [self._text(str(event.shapes()).replace(" ", "")) for event in events]
            columns["dtypes"] = [self._text(json.dumps(event.dtypes())) for event in events]
            columns["concrete"] = [self._concrete(event) for event in events]
        return events_piece({name: np.asarray(column) for name, column in columns.items()})

    def _row(self, event: Any, main_thread: int) -> tuple[int, ...]:
        kind = kind_of(event)
        on_device = kind in ON_DEVICE
        start = event.start_ns() - self._offset_ns
        return (
            start,
            max(event.duration_ns(), 0),
            self._text(event.name()),
            kind,
            self._lane(event, main_thread, on_device=on_device),
            event.linked_correlation_id() if on_device or kind == Kind.RUNTIME else event.correlation_id(),
            _sequence(event) if kind == Kind.OP else -1,
            event.fwd_thread_id() if kind == Kind.OP else -1,
        )

    def _concrete(self, event: Any) -> int:
        """Strides, paddings, flags: only for the ops whose cost depends on them, since reading them is slow."""
        if not any(part in event.name() for part in NEED_VALUES):
            return -1
        values = [value if isinstance(value, (bool, int, float, list)) else "" for value in event.concrete_inputs()]
        return self._text(json.dumps(values))

    def _text(self, text: str) -> int:
        """Names repeat thousands of times; the builder's own table is asked once for each."""
        found = self._texts.get(text)
        if found is None:
            found = self._texts[text] = self._builder.intern(text)
        return found

    def _lane(self, event: Any, main_thread: int, *, on_device: bool) -> int:
        thread = event.device_resource_id() if on_device else event.start_thread_id()
        key = (int(on_device), event.device_index() if on_device else -1, thread)
        if key not in self._lanes:
            self._lanes[key] = self._new_lane(key, is_main=not on_device and thread == main_thread)
        return self._lanes[key]

    def _new_lane(self, key: tuple[int, int, int], *, is_main: bool) -> int:
        on_device, device, thread = key
        if is_main:
            return self._thread_lane
        name = f"stream {thread}" if on_device else f"thread {thread}"
        kind = "stream" if on_device else "host"
        return self._builder.lane(Lane(name, kind, os.getpid(), thread, device))


def _busiest_thread(events: Any) -> int:
    """The training thread: Kineto numbers threads in its own way, and it is the one with the ops."""
    counts: dict[int, int] = {}
    for event in events:
        if event.sequence_nr() >= 0 and event.fwd_thread_id() == 0:
            thread = event.start_thread_id()
            counts[thread] = counts.get(thread, 0) + 1
    return max(counts, key=counts.__getitem__, default=-1)


@contextmanager
def quiet_stderr() -> Generator[None]:
    """Keeps Kineto's `USDT:` lines from the user; whatever else reaches file descriptor 2 is passed on.

    They are written by C++ code and no log level turns them off (torch 2.13).
    """
    try:
        sys.stderr.flush()
        caught = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        kept = os.dup(2)
    except (OSError, AttributeError, ValueError):  # no stderr, or a full disk
        yield
        return
    with caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            caught.seek(0)
            for line in caught:
                if not line.startswith(NOISE):
                    os.write(kept, line)
            os.close(kept)
