"""A thread that looks where the training thread is, on steps of its own, and names the source line."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from longpole.capture.frames import user_place
from longpole.capture.interpreter import frames_of_threads
from longpole.trace.clock import monotonic_ns

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from longpole.capture.loop import LoopLevel

PERIOD_S = 0.0005
# Without it a thread in pure Python holds the interpreter for 5 ms, and samples would fall only where it
# lets go: in sleeps and in ops, never in Python.
SWITCH_INTERVAL_S = 0.0001

# time, depth in the loop's levels (-1: none on the stack), line there, code and line of the user's own place
Sample = tuple[int, int, int, "CodeType", int]


class Sampler:
    """Between `start` and `stop` it fills `samples`. It leaves the switch interval as it was."""

    def __init__(self, thread: int, levels: list[LoopLevel]) -> None:
        self.samples: list[Sample] = []
        self._target = thread
        self._depths = {level.code: depth for depth, level in enumerate(levels)}
        self._loop = frozenset(level.code for level in levels[-1:])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="longpole-sampler", daemon=True)
        self._interval = sys.getswitchinterval()

    def start(self) -> None:
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.restore()

    def restore(self) -> None:
        sys.setswitchinterval(self._interval)

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            frame = frames_of_threads().get(self._target)
            if frame is not None:
                self.samples.append(self._look(monotonic_ns(), frame))

    def _look(self, time_ns: int, frame: FrameType) -> Sample:
        code, line = user_place(frame, self._loop)
        at: FrameType | None = frame
        while at is not None:
            depth = self._depths.get(at.f_code)
            if depth is not None:
                return time_ns, depth, at.f_lineno or 0, code, line
            at = at.f_back
        return time_ns, -1, 0, code, line
