"""Welch's interval of a difference, and the interval of a trimmed mean. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.student import t_quantile, t_tail

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Shift:
    """A difference of means, its 95 % interval, and the chance of one so great between equal means."""

    difference: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def welch(before: Sequence[float], after: Sequence[float]) -> Shift:
    """The mean of `after` less that of `before` (Welch 1947, doi:10.1093/biomet/34.1-2.28).

    Without interval where a side has fewer than two values, or neither spreads at all.
    """
    a, b = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    difference = float(b.mean() - a.mean())
    if min(len(a), len(b)) < 2:
        return Shift(difference)
    parts = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    square = sum(parts)
    if square <= 0:
        return Shift(difference)
    degrees = square**2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    error = math.sqrt(square)
    half = t_quantile(degrees) * error
    return Shift(difference, difference - half, difference + half, t_tail(abs(difference) / error, degrees))


def trimmed_interval(values: Sequence[float], cut: int = 1) -> tuple[float, float] | None:
    """95 % interval of the mean without the `cut` smallest and largest; None where fewer than two values are left.

    Tukey and McLaughlin (1963): the variance is that of the values with the outermost pulled in to their
    neighbours, divided by (1 - 2 cut/n)^2 n, with n - 2 cut - 1 degrees of freedom.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    count = len(ordered)
    degrees = count - 2 * cut - 1
    if degrees < 1:
        return None
    mean = float(ordered[cut : count - cut].mean())
    pulled = np.clip(ordered, ordered[cut], ordered[count - cut - 1])
    error = math.sqrt(float(pulled.var(ddof=1)) / count) / (1 - 2 * cut / count)
    half = t_quantile(degrees) * error
    return mean - half, mean + half
