"""The largest batch that fits into a number of bytes: a straight line through measured peaks, and its interval.

Every storage of a step is either there whatever the batch, or as large as the batch is; so the peak is a straight line
in the batch as long as it stays at the same place of the step. It need not: a small batch peaks in the update, whose
bytes no batch changes, a larger one in the loss, a still larger one in backward. So each phase of the step has its own
line, and the step's peak is the highest of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from longpole.analysis.memory_prices import BatchPoint, LargestBatch
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Student's t, two-sided 95 %, for 1, 2, 3, … degrees of freedom. Source: NIST/SEMATECH e-Handbook, table 1.3.6.7.2.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
OFF_THE_LINE = 0.02  # of the peak: a smallest batch so far above the line of the others peaks elsewhere
MOST_SAMPLES = 1 << 40


@dataclass(frozen=True, slots=True)
class Line:
    """Peak = fixed + sample x batch. `spread` is the standard deviation of a point round it, None with two points."""

    fixed: float
    sample: float
    spread: float | None
    mean: float
    scatter: float  # sum of squared distances of the batches from their mean
    count: int

    def at(self, batch: float) -> float:
        return self.fixed + self.sample * batch

    def half_width(self, batch: float) -> float:
        """Of the 95 % interval of one more measured peak at this batch; 0 where two points leave none."""
        if self.spread is None:
            return 0.0
        t = STUDENT[min(self.count - 2, len(STUDENT)) - 1]
        return t * self.spread * math.sqrt(1 + 1 / self.count + (batch - self.mean) ** 2 / self.scatter)


@dataclass(frozen=True, slots=True)
class Peaks:
    """A line for each phase of the step; the peak is on the highest of them."""

    lines: Sequence[Line]

    def top(self, batch: float) -> Line:
        return max(self.lines, key=lambda line: line.at(batch))

    def at(self, batch: float) -> float:
        return self.top(batch).at(batch)

    def half_width(self, batch: float) -> float:
        return self.top(batch).half_width(batch)


def predicted_peak(points: Sequence[BatchPoint], batch: int) -> float:
    """Bytes at this batch. Raises LongpoleError without two different batches."""
    return _peaks(sorted(points, key=lambda point: point.batch_size))[0].at(batch)


def _peaks(ordered: Sequence[BatchPoint]) -> tuple[Peaks, str]:
    """And which point is on none of the lines."""
    phases = set[str].intersection(*(set(point.phase_peak_bytes) for point in ordered)) if ordered else set[str]()
    if phases:
        by_phase = [
            [replace(point, peak_bytes=point.phase_peak_bytes[phase]) for point in ordered] for phase in sorted(phases)
        ]
        return Peaks([_line(some)[0] for some in by_phase]), ""
    line, is_bent = _line(ordered)
    note = f"batch {ordered[0].batch_size} peaks elsewhere in the step and is left out of the line" if is_bent else ""
    return Peaks([line]), note


def _line(ordered: Sequence[BatchPoint]) -> tuple[Line, bool]:
    """And whether the smallest batch was left out: it is above the line of the others, so it peaks elsewhere."""
    if len(ordered) > 2:
        rest = fit_line(ordered[1:])
        above = ordered[0].peak_bytes - rest.at(ordered[0].batch_size)
        if above > OFF_THE_LINE * ordered[0].peak_bytes:
            return rest, True
    return fit_line(ordered), False


def fit_line(points: Sequence[BatchPoint]) -> Line:
    """Least squares. Raises LongpoleError where there are not two different batches."""
    x = np.array([point.batch_size for point in points], dtype=float)
    y = np.array([point.peak_bytes for point in points], dtype=float)
    if len(set(x.tolist())) < 2:
        raise LongpoleError("the largest batch needs two measured batches at least, and they must differ")
    scatter = float(((x - x.mean()) ** 2).sum())
    sample = float(((x - x.mean()) * (y - y.mean())).sum()) / scatter
    fixed = float(y.mean()) - sample * float(x.mean())
    left = len(x) - 2
    spread = math.sqrt(float(((y - fixed - sample * x) ** 2).sum()) / left) if left else None
    return Line(fixed, sample, spread, float(x.mean()), scatter, len(x))


def largest_batch(points: Sequence[BatchPoint], budget_bytes: int, budget_from: str) -> LargestBatch:
    """The largest batch whose peak is within the budget. Raises LongpoleError without two different batches."""
    ordered = sorted(points, key=lambda point: point.batch_size)
    peaks, note = _peaks(ordered)
    if all(line.sample <= 0 for line in peaks.lines):
        note = "the peak does not grow with the batch: it is not the batch that fills the memory"
        line = peaks.top(1)
        return LargestBatch(budget_bytes, budget_from, tuple(ordered), line.fixed, line.sample, None, note=note)
    size, low, high = (_most(peaks, budget_bytes, sign) for sign in (0.0, 1.0, -1.0))
    line = peaks.top(size or 1)
    if line.spread is None:
        low = high = None
    return LargestBatch(
        budget_bytes, budget_from, tuple(ordered), line.fixed, line.sample, size, low=low, high=high, note=note
    )


def _most(line: Peaks, budget: int, sign: float) -> int | None:
    """The largest batch whose peak, or an end of its interval, is within the budget; by halving."""
    low, high = 0, 1
    while high < MOST_SAMPLES and line.at(high) + sign * line.half_width(high) <= budget:
        low, high = high, high * 2
    if high >= MOST_SAMPLES:  # the interval widens faster than the peak grows: it has no end
        return None
    while high - low > 1:
        middle = (low + high) // 2
        fits = line.at(middle) + sign * line.half_width(middle) <= budget
        low, high = (middle, high) if fits else (low, middle)
    return low or None
