"""Weighted least squares of a line, with intervals of its two terms and of ratios of them.

Times of a larger step scatter more, about in proportion, so a run counts with one over the square of its point's
time. With the same weights for a step and for its parts, the lines of the parts sum to the line of the step.
Intervals assume that runs are independent of each other (each is a process of its own, in shuffled order) and their
noise about normal; they use Student's t with the runs' own scatter, so a curve that is no line gets wide ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.student import t_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

COVERAGE = 0.95


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate with its 95 % interval; None where too few runs leave it unknown (or it has no end there)."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Usual:
    """How far two runs usually differ, learnt elsewhere: a variance, and the degrees of freedom it counts for."""

    variance: float
    freedom: float


@dataclass(frozen=True, slots=True)
class Line:
    """y = intercept + slope x; the covariance of the two is in squares of y's unit, NaN without a spare run."""

    intercept: float
    slope: float
    covariance: NDArray[np.float64]  # (2, 2)
    degrees: float  # runs less two, and those of the usual variance
    variance: float  # of a run with weight 1

    def at(self, x: float) -> float:
        return self.intercept + self.slope * x

    def combination(self, of_intercept: float, of_slope: float) -> Figure:
        """A weighted sum of the two terms."""
        value = of_intercept * self.intercept + of_slope * self.slope
        if self.degrees < 1:
            return Figure(value)
        terms = np.array([of_intercept, of_slope])
        half = t_quantile(self.degrees, COVERAGE) * float(np.sqrt(max(terms @ self.covariance @ terms, 0.0)))
        return Figure(value, value - half, value + half)

    def next_run(self, x: float, weight: float) -> Figure:
        """Where one more run at x, of this weight, would fall."""
        value = self.at(x)
        if self.degrees < 1:
            return Figure(value)
        terms = np.array([1.0, x])
        spread = float(terms @ self.covariance @ terms) + self.variance / weight
        half = t_quantile(self.degrees, COVERAGE) * float(np.sqrt(max(spread, 0.0)))
        return Figure(value, value - half, value + half)


def weights_of(x: Sequence[float], y: Sequence[float]) -> NDArray[np.float64]:
    """One over the square of the mean at each x: the weight of every run there."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    found = np.empty(len(xs))
    for value in np.unique(xs):
        mean = float(ys[xs == value].mean())
        found[xs == value] = 1.0 / mean**2 if mean > 0 else 1.0
    return found


def fit_line(
    x: Sequence[float], y: Sequence[float], weights: NDArray[np.float64], usual: Usual | None = None
) -> Line | None:
    """The line through the runs; None where they stand at fewer than two different x.

    `usual` is the variance of a run with weight 1 as other runs have it: the scatter of these few is taken together
    with it, each weighted by its degrees of freedom (Smyth 2004, doi:10.2202/1544-6115.1027).
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(np.unique(xs)) < 2:
        return None
    columns = np.stack([np.ones_like(xs), xs], axis=1)
    inverse = np.linalg.inv(columns.T @ (weights[:, None] * columns))
    terms = inverse @ (columns.T @ (weights * ys))
    left = ys - columns @ terms
    squares, degrees = float((weights * left**2).sum()), float(len(xs) - 2)
    if usual is not None:
        squares, degrees = squares + usual.freedom * usual.variance, degrees + usual.freedom
    variance = squares / degrees if degrees else float("nan")
    return Line(float(terms[0]), float(terms[1]), inverse * variance, degrees, variance)


def ratio(line: Line, above: tuple[float, float], below: tuple[float, float]) -> Figure | None:
    """(a0 intercept + a1 slope) / (b0 intercept + b1 slope) with Fieller's interval (1954).

    The interval holds every r for which `above - r below` is zero within the noise. An end is None where it has
    none: the sum below cannot be told from 0. None where the sum below is not positive.
    """
    top, bottom = line.combination(*above), line.combination(*below)
    if not bottom.value > 0:
        return None
    value = top.value / bottom.value
    if line.degrees < 1:
        return Figure(value)
    t = t_quantile(line.degrees, COVERAGE)
    a, b = np.array(above), np.array(below)
    aa, ab, bb = (float(p @ line.covariance @ q) for p, q in ((a, a), (a, b), (b, b)))
    square = bottom.value**2 - t**2 * bb
    if square <= 0:
        return Figure(value)
    middle = top.value * bottom.value - t**2 * ab
    rest = middle**2 - square * (top.value**2 - t**2 * aa)
    half = float(np.sqrt(max(rest, 0.0)))
    return Figure(value, (middle - half) / square, (middle + half) / square)
