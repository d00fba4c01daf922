"""Spread and doubt of a few repeated measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RESAMPLES = 2000
SEED = 20130  # the same numbers give the same interval


def median_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """The 95 % bootstrap interval of the median; None for fewer than three values."""
    return _interval(values, lambda draws: np.median(draws, axis=1))


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """The 95 % bootstrap interval of the mean; None for fewer than three values."""
    return _interval(values, lambda draws: np.mean(draws, axis=1))


def _interval(
    values: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> tuple[float, float] | None:
    if len(values) < 3:
        return None
    random = np.random.default_rng(SEED)
    draws = values[random.integers(0, len(values), (RESAMPLES, len(values)))]
    low, high = np.percentile(statistic(draws), [2.5, 97.5])
    return float(low), float(high)


def hiccups(values: NDArray[np.float64], most_share: float = 0.05) -> NDArray[np.bool_]:
    """Which of the values are rare outliers upwards: above Q3 + 3 IQR and 1.3 medians, at most this share of them.

    More of them than that are no accident of the machine but part of what is measured (a loader that stalls on
    every fourth batch), and then none is marked.
    """
    low, middle, high = np.percentile(values, [25, 50, 75]) if len(values) else (0.0, 0.0, 0.0)
    found = (values > high + 3 * (high - low)) & (values > 1.3 * middle)
    return found if found.sum() <= max(most_share * len(values), 1) and len(values) >= 8 else np.zeros_like(found)
