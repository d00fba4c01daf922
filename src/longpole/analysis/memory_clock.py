"""Times of a watched step told in milliseconds of the true one, and which phase each belongs to.

A watched step is slower than others, in some phases more than in others. Each phase is stretched to what it takes in
steps that nobody looks into.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from longpole.trace.kinds import Phase, label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.trace.memory import StepMemory

TURNING = (Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER)


class StepClock:
    """The step cut into stretches of one phase each, in order and without holes."""

    def __init__(self, memory: StepMemory, phase_ms: Mapping[str, float], wall_ms: float | None) -> None:
        self.end_ns = max([memory.length_ns, 1, *(end for _, _, end in memory.marks)])
        self._bounds, self._marked = _stretches(memory.marks, self.end_ns)
        self.words = _words(self._marked)
        self._ms = _milliseconds(self._bounds, self._marked, phase_ms, wall_ms)

    def phase_at(self, time_ns: int) -> str:
        """`data`, `forward`, ...: where no mark is, what lies before forward is data, after it loss."""
        return self.words[self._row(time_ns)]

    def is_input_time(self, time_ns: int) -> bool:
        """Whether what is made then outside of every module is made for the network to read."""
        return self.words[self._row(time_ns)] in ("data", "transfer")

    def ms(self, times_ns: Sequence[int]) -> list[float]:
        """Milliseconds since the start of the step."""
        found: list[float] = np.interp(np.asarray(times_ns, dtype=np.float64), self._bounds, self._ms).tolist()
        return found

    def _row(self, time_ns: int) -> int:
        at = int(np.searchsorted(self._bounds, time_ns, side="right")) - 1
        return min(max(at, 0), len(self.words) - 1)


def _stretches(marks: Sequence[tuple[int, int, int]], end_ns: int) -> tuple[NDArray[np.float64], list[Phase]]:
    """Bounds of stretches and the phase of each; of marks inside one another the inner one counts."""
    times = sorted({0, end_ns, *(time for _, start, end in marks for time in (start, end) if 0 < time < end_ns)})
    phases: list[Phase] = []
    for start, end in itertools.pairwise(times):
        round_it = [mark for mark in marks if mark[1] <= start and end <= mark[2]]
        inner = max(round_it, key=lambda mark: (mark[1], -mark[2]), default=None)
        phases.append(Phase(inner[0]) if inner is not None else Phase.NOBODY)
    return np.array(times, dtype=np.float64), phases


def _words(marked: Sequence[Phase]) -> list[str]:
    words: list[str] = []
    for at, phase in enumerate(marked):
        if phase != Phase.NOBODY:
            words.append(label(phase))
            continue
        before = next((found for found in reversed(marked[:at]) if found in TURNING), None)
        later = next((found for found in marked[at + 1 :] if found in TURNING), None)
        if before == Phase.FORWARD and later is not None:
            words.append("loss")
        else:
            words.append("data" if Phase.FORWARD in marked[at + 1 :] else "other")
    return words


def _milliseconds(
    bounds: NDArray[np.float64], marked: Sequence[Phase], phase_ms: Mapping[str, float], wall_ms: float | None
) -> NDArray[np.float64]:
    """The true time at each bound. What no mark covers shares what the marked phases leave of the step."""
    lengths = np.diff(bounds)
    true = lengths / 1e6
    covered = 0.0
    for phase in set(marked) - {Phase.NOBODY}:
        rows = [row for row, found in enumerate(marked) if found == phase]
        target = phase_ms.get(label(phase))
        if target is not None and lengths[rows].sum() > 0:
            true[rows] = lengths[rows] / lengths[rows].sum() * target
        covered += float(true[rows].sum())
    bare = [row for row, found in enumerate(marked) if found == Phase.NOBODY]
    if wall_ms is not None and lengths[bare].sum() > 0:
        true[bare] = lengths[bare] / lengths[bare].sum() * max(wall_ms - covered, 0.0)
    return np.concatenate([[0.0], np.cumsum(true)])
