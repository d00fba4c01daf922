"""Intervals from a few runs of each of many networks: each borrows what all say about how far runs differ.

Three runs alone say little about their own spread. The variance of a network's runs is therefore taken together
with the usual one, each weighted by its degrees of freedom (the moderated variance of Smyth 2004,
doi:10.2202/1544-6115.1027). The usual one comes from the other networks of the survey where there are enough.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from longpole.analysis.student import t_quantile
from longpole.analysis.survey import Estimate
from longpole.sweep.lines import Usual

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEAST_POOLED = 5  # degrees of freedom among other networks that make a usual variance
PRIOR_WEIGHT = 4.0  # degrees of freedom that the usual variance counts for, at most


# Assumed, for surveys with too few runs to say; benchmarks/survey_stability.py prints what they are on a machine.
USUAL_LOGARITHM = Usual(0.05**2, PRIOR_WEIGHT)  # of times and ratios
USUAL_SHARE = Usual(0.01**2, PRIOR_WEIGHT)  # of shares of the step


def student(freedom: float) -> float:
    """Quantile 0.975 of Student's t; without one degree of freedom no interval is wide enough."""
    return math.inf if freedom < 1 else t_quantile(freedom)


def pooled(groups: Iterable[Sequence[float]], otherwise: Usual) -> Usual:
    """The usual variance of runs round their own network's mean; `otherwise` where too few networks say."""
    squares, freedom = 0.0, 0
    for values in groups:
        if len(values) > 1:
            squares += _squares(values)
            freedom += len(values) - 1
    return Usual(squares / freedom, PRIOR_WEIGHT) if freedom >= LEAST_POOLED else otherwise


def share(values: Sequence[float], usual: Usual = USUAL_SHARE) -> Estimate:
    """The mean of shares with its interval, cut at 0 and 1."""
    mean, half = _mean_and_half(values, usual)
    return Estimate(mean, max(mean - half, 0.0), min(mean + half, 1.0))


def ratio(values: Sequence[float], usual: Usual = USUAL_LOGARITHM) -> Estimate:
    """The geometric mean of positive times or ratios with its interval."""
    mean, half = _mean_and_half([math.log(value) for value in values], usual)
    return Estimate(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def _mean_and_half(values: Sequence[float], usual: Usual) -> tuple[float, float]:
    """The mean of n runs, and how far from it the mean of n others lies at most, 95 times of 100."""
    count = len(values)
    freedom = usual.freedom + count - 1
    variance = (usual.freedom * usual.variance + _squares(values)) / freedom
    return sum(values) / count, student(freedom) * math.sqrt(variance * 2 / count)


def _squares(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)
