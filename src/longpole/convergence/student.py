"""Student's t distribution, Welch's interval of a difference, and the interval of a trimmed mean. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95


def t_tail(t: float, degrees: float) -> float:
    """P(|T| > t) with so many degrees of freedom, which need be no whole number."""
    return _incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5)


def t_quantile(degrees: float, confidence: float = CONFIDENCE) -> float:
    """The t that |T| stays below with this probability: 2.776 for 4 degrees and 0.95."""
    low, high = 0.0, 4.0
    while t_tail(high, degrees) > 1 - confidence:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, degrees) > 1 - confidence else (low, middle)
    return (low + high) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)) / a
    tail = 0.0
    for n in range(60 + int(math.sqrt(max(a, b))), 0, -1):  # from the far end; it converges in O(sqrt(max(a, b)))
        m = n // 2
        if n % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        tail = term / (1 + tail)
    return front / (1 + tail)


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
