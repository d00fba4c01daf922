"""Student's t distribution, without scipy: its tail and its quantiles. Pure."""

from __future__ import annotations

import math
from functools import lru_cache

CONFIDENCE = 0.95


def t_tail(t: float, degrees: float) -> float:
    """P(|T| > t) with so many degrees of freedom, which need be no whole number."""
    return _incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5)


@lru_cache(maxsize=256)
def t_quantile(degrees: float, confidence: float = CONFIDENCE) -> float:
    """The t that |T| stays below with this probability: 2.776 for 4 degrees and 0.95.

    Raises ValueError for less than one degree of freedom.
    """
    if degrees < 1:
        raise ValueError("Student's t needs a degree of freedom")
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
