"""Which way a metric gets better, and a target that every run reaches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.converge_results import Target
from longpole.convergence.curves import best, crossing, smooth
from longpole.convergence.says import FALLS, RISES, direction_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.convergence.curves import Points

EASED = (0.05, 0.1, 0.2, 0.3, 0.5)  # parts of the way from the beginning to the best, given back
FIGURES = 4
BY_ITS_NAME = "by its name"
LEAST_SHARE = 0.5  # of the way that the first side goes: a target less far says little about that side


def direction_for(name: str, runs: Sequence[Points]) -> tuple[str, str]:
    """The direction, and how it is known: by the metric's name, or by what it did."""
    known = direction_of(name)
    if known is not None:
        return known, BY_ITS_NAME
    changes = [float(p.values[-1] - p.values[0]) for p in runs if len(p.values) > 1]
    went_up = sum(change > 0 for change in changes) * 2 > len(changes)
    return (RISES if went_up else FALLS), "since it did; its name does not say (--direction)"


def choose(sides: Sequence[Sequence[Points]], direction: str, window: int) -> Target | None:
    """A target for all sides: what every run reaches, or, where one side hardly gets anywhere, the first side.

    None where not even the first side's runs all get better than they began.
    """
    first = _reached_by_all(sides[0], direction, window)
    if first is None:
        return None
    alone = Target(
        first, True, "chosen: what every run " + ("of the first side " if len(sides) > 1 else "") + "reaches"
    )
    if len(sides) == 1:
        return alone
    every = [run for side in sides for run in side]
    common = _reached_by_all(every, direction, window)
    start = _start(sides[0], window)
    if common is None or abs(common - start) < LEAST_SHARE * abs(first - start):
        return alone
    return Target(common, True, "chosen: what every run of all sides reaches")


def _reached_by_all(runs: Sequence[Points], direction: str, window: int) -> float | None:
    sign = -1.0 if direction == RISES else 1.0
    bests = [best(run, direction, window) for run in runs]
    if not bests or any(one is None for one in bests):
        return None
    worst = max(sign * one[0] for one in bests if one is not None)
    start = sign * _start(runs, window)
    if not worst < start:
        return None
    for eased in EASED:
        value = sign * _rounded(worst + eased * (start - worst))
        if all(crossing(run, value, direction, window) is not None for run in runs):
            return value
    return None


def _start(runs: Sequence[Points], window: int) -> float:
    """The median over the runs of their first smoothed values."""
    firsts = [smooth(run.values, window) for run in runs]
    return float(np.median([values[np.isfinite(values)][0] for values in firsts if np.isfinite(values).any()]))


def _rounded(value: float) -> float:
    """Upwards, the easier way, to four figures: a target that can be read and typed."""
    if value == 0 or not math.isfinite(value):
        return value
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - FIGURES + 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.{FIGURES}g}")
