"""A metric over a run: smoothed, and where it first reaches a target. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.converge_results import Crossing, Curve
from longpole.convergence.says import RISES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SHARE_OF_VALUES = 20  # the window is a twentieth of the shortest run
WIDEST = 101
LEAST_OF_BATCHES = 5
MOST_POINTS = 1500  # of a curve that is written out


@dataclass(frozen=True, slots=True)
class Points:
    """A metric as it came: updates done by then, seconds since the first step began, the value. Of one length."""

    steps: NDArray[np.int64]
    seconds: NDArray[np.float64]
    values: NDArray[np.float64]


def window_for(counts: Sequence[int], *, of_batches: bool) -> int:
    """An odd number of values, the same for every run: a twentieth of the shortest, at most 101; 1 is no smoothing.

    Losses of single batches are noisy: of at least 15 of them, at least 5 are averaged. What a script prints every
    now and then is mostly an average already.
    """
    count = min(counts, default=0)
    width = min(max(count // SHARE_OF_VALUES, LEAST_OF_BATCHES if of_batches else 1), WIDEST, max(count // 3, 1))
    return max(width - 1 + width % 2, 1)


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The centred mean over `window` values; near an end, over as many as there are on both sides.

    A centred mean of a straight line is that line, so falling is not shown late, as a trailing mean would. Values
    that are not finite are left out; where the middle one is not, neither is the result.
    """
    count = len(values)
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    places = np.arange(count)
    reach = np.minimum(np.minimum(places, count - 1 - places), window // 2)
    low, high = places - reach, places + reach + 1
    means = (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1)
    return np.where(finite, np.where(reach > 0, means, values), np.nan)


def crossing(points: Points, target: float, direction: str, window: int) -> Crossing | None:
    """Where the target is first reached and held; None where it never is.

    Held: the smoothed value is at or past the target, and so is the mean of this value and the next `window // 2`.
    The second condition keeps one lucky value at the beginning, where nothing is there to smooth it with, from
    counting. Afterwards the metric may get worse again: `left_again` says how often.
    """
    sign = -1.0 if direction == RISES else 1.0
    values, goal = sign * points.values, sign * target
    smoothed = smooth(values, window)
    places = held_places(values, goal, window)
    if not len(places):
        return None
    first = int(places[0])
    raw = np.flatnonzero(np.less_equal(values, goal))
    return Crossing(
        step=int(points.steps[first]),
        seconds=float(points.seconds[first]),
        value=sign * float(smoothed[first]),
        resolution=int(points.steps[first] - points.steps[first - 1]) if first else max(int(points.steps[first]), 1),
        raw_step=int(points.steps[raw[0]]) if len(raw) else None,
        left_again=int(np.sum(np.greater(smoothed[first:], goal))),
    )


def held_places(values: NDArray[np.float64], goal: float, window: int) -> NDArray[np.int64]:
    """Where falling values are at or below the goal and held there; see `crossing`."""
    good = np.less_equal(smooth(values, window), goal)  # comparisons with NaN are false
    return np.flatnonzero(good & np.less_equal(_means_ahead(values, window // 2), goal))


def _means_ahead(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """The mean of each value and the `reach` after it; NaN where one of them is not finite."""
    count = len(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(values), values, 0.0))])
    broken = np.concatenate([[0], np.cumsum(~np.isfinite(values))])
    ends = np.minimum(np.arange(count) + reach + 1, count)
    starts = np.arange(count)
    means = (sums[ends] - sums[starts]) / np.maximum(ends - starts, 1)
    return np.where(broken[ends] == broken[starts], np.where(ends - starts > 1, means, values), np.nan)


def best(points: Points, direction: str, window: int) -> tuple[float, int] | None:
    """The best smoothed value and the step at which it was reached; None where no value is finite."""
    smoothed = smooth(points.values, window)
    if not np.isfinite(smoothed).any():
        return None
    place = int(np.nanargmax(smoothed) if direction == RISES else np.nanargmin(smoothed))
    return float(smoothed[place]), int(points.steps[place])


def written(points: Points, window: int) -> Curve:
    """The curve for reports, thinned evenly to at most MOST_POINTS; the last point is always there."""
    count = len(points.values)
    kept = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(np.int64))
    smoothed = smooth(points.values, window)
    return Curve(
        steps=[int(step) for step in points.steps[kept]],
        seconds=[float(second) for second in points.seconds[kept]],
        values=[_finite(value) for value in points.values[kept]],
        smoothed=[_finite(value) for value in smoothed[kept]],
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
