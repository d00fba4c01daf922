"""The log of phase marks: what the hooks write and the recorder reads at each turn of the loop."""

from __future__ import annotations

import functools
from array import array
from threading import get_ident
from typing import TYPE_CHECKING, Any

from torch.compiler import is_compiling

from longpole.trace.clock import monotonic_ns
from longpole.trace.kinds import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.trace.clock import Clock

# Numbers of one mark: phase, start, end, and a detail: twice the module's id, plus one in evaluation mode, for
# FORWARD, LOSS and EVALUATION; the number of workers for DATA; else 0.
MARK_WIDTH = 4
NO_THREAD = 0  # no thread has this identity


class MarkLog:
    """Marks of one thread, the one that trains; others pass through unmarked.

    Hot: a mark is two clock reads, a thread check and an append, about half a microsecond. Numbers go into an
    array: tuples kept in a list would set off the garbage collector, at ten times the cost of the mark.
    """

    def __init__(self, clock: Clock = monotonic_ns) -> None:
        self.clock = clock
        self.marks = array("q")  # of the steps that are kept, and of the one that runs
        self.thread: int | None = None  # until the first turn is known: any
        self.on_mark: Callable[[Phase], None] | None = None  # the loop finder, while warming up
        self._kept = 0  # numbers in `marks` that are of steps before this one

    def close(self) -> None:
        """Marks nothing any more: a script may hold wrapped functions for good, by `from torch import save`."""
        self.on_mark = None
        self.thread = NO_THREAD

    def is_other_thread(self) -> bool:
        return self.thread is not None and get_ident() != self.thread

    def timed(self, function: Callable[..., Any], phase: Phase) -> Callable[..., Any]:
        """The function, its calls marked as this phase; a call while a compiler traces is left alone."""
        clock = self.clock

        @functools.wraps(function)
        def longpole_timed(*args: Any, **kwargs: Any) -> Any:
            if (self.thread is not None and get_ident() != self.thread) or is_compiling():
                return function(*args, **kwargs)
            if self.on_mark is not None:
                self.on_mark(phase)
            start = clock()
            try:
                return function(*args, **kwargs)
            finally:
                self.marks.extend((phase, start, clock(), 0))

        return longpole_timed

    def of_this_step(self) -> array[int]:
        return self.marks[self._kept :]

    def length_of_step(self) -> int:
        """Numbers, not marks."""
        return len(self.marks) - self._kept

    def end_step(self, *, keep: bool) -> None:
        if not keep:
            del self.marks[self._kept :]
        self._kept = len(self.marks)

    def take(self) -> array[int]:
        """The marks since the last time, MARK_WIDTH numbers each. Between steps only."""
        marks, self.marks, self._kept = self.marks, array("q"), 0
        return marks


def mark_cost_ns(calls: int = 300) -> float:
    """What one mark costs here and now: the fastest of a few rounds of marked calls less unmarked ones."""
    log = MarkLog()
    log.thread = get_ident()

    def nothing() -> None:
        return None

    def fastest(function: Callable[[], None]) -> int:
        rounds: list[int] = []
        for _ in range(5):
            start = monotonic_ns()
            for _ in range(calls):
                function()
            rounds.append(monotonic_ns() - start)
        return min(rounds)

    return max(fastest(log.timed(nothing, Phase.OTHER)) - fastest(nothing), 0) / calls
