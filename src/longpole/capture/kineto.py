"""Level 2: torch's own profiler, started and stopped between steps, read without its event lists.

`EventList` and `key_averages` cost more than the recording and are never built; the raw results are read
into columns, on the clock of the marks.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.profiler import profile

from longpole.capture import internals
from longpole.capture.allocations import MEMORY, QuietFrees, sizes_of
from longpole.capture.kineto_events import read_events
from longpole.capture.patches import Patches
from longpole.trace.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Generator

    from longpole.trace.build import Piece, TraceBuilder

NOISE = (b"USDT:", b"ERROR: External init callback must run in same thread")  # the second: no main thread


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
        named = [(event, event.name()) for event in events]
        self.allocations = sizes_of([event for event, name in named if name == MEMORY], self._offset_ns)
        ops = [one for one in named if one[1] != MEMORY]
        return read_events(ops, builder, self._offset_ns, thread_lane, shapes=self._shapes)


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
