"""The clock of one watched step, which stands still while longpole looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longpole.trace.memory import ALIVE

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence


class WatchClock:
    """Times on the clock of the marks as times since the start of the step, with our own stretches cut out."""

    def __init__(self, pauses: array[int], start_ns: int, end_ns: int) -> None:
        spans = np.array(pauses, dtype=np.int64).reshape(-1, 2)
        self._starts = spans[:, 0]
        self._ends = spans[:, 1]
        self._before = np.concatenate([[0], np.cumsum(self._ends - self._starts)])
        self._first, self._last = start_ns, end_ns
        self.spent_ns = int(self._before[-1])

    def times(self, column: Sequence[int]) -> list[int]:
        """-1 (never) and ALIVE stay what they are."""
        if not column:
            return []
        given = np.array(column, dtype=np.int64)
        real = np.clip(given, self._first, self._last)
        done = np.searchsorted(self._ends, real, side="right")
        inside = np.minimum(done, max(len(self._starts) - 1, 0))
        partly = np.maximum(real - self._starts[inside], 0) if len(self._starts) else np.zeros_like(real)
        partly = np.where(done < len(self._starts), partly, 0)
        cut = real - self._first - self._before[done] - partly
        found: list[int] = np.where((given == -1) | (given >= ALIVE), given, cut).tolist()
        return found
