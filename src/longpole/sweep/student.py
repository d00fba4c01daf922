"""Quantiles of Student's t, without scipy: the integral of its density, inverted."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

GRID = 20_001


@lru_cache(maxsize=256)
def t_quantile(degrees: int, coverage: float = 0.95) -> float:
    """How many standard errors on either side hold `coverage`; `degrees` of freedom, at least 1.

    With t = sqrt(n) tan(a) the density is proportional to cos(a)^(n-1) on -pi/2 < a < pi/2.
    """
    if degrees < 1:
        raise ValueError("Student's t needs a degree of freedom")
    angle = np.linspace(0.0, np.pi / 2, GRID)
    density = np.cos(angle) ** (degrees - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    found = float(np.interp(coverage * mass[-1], mass, angle))
    return float(np.sqrt(degrees) * np.tan(found))
