"""How near an estimate from k random directions comes to the gradient: measured, and by theory.

For directions v of independent standard normal numbers, the estimate is the mean of (g · v) v. Rotated so that g is
an axis, its cosine with g is |w| / sqrt(|w|² + r), where w holds the k slopes over |g| and r is what the n - 1 other
axes collect: |w|² and r are independent chi-squared numbers with k and n - 1 degrees of freedom. So the squared
cosine is Beta(k/2, (n-1)/2), its mean is k / (k + n - 1), and for k far below n the cosine is near sqrt(k/n).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from longpole.analysis.without_backprop_results import Cosine
from longpole.convergence.without_backprop_costs import EPSILON
from longpole.convergence.without_backprop_network import cosine
from longpole.trace.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.convergence.without_backprop_network import Direction, Network

DIRECTIONS = (1, 4, 16, 64)
REPEATS = 5
BUDGET_S = 40.0
DRAWS = 40_000
SEED = 20192


def expected_cosine(directions: int, parameters: int) -> float:
    """The mean cosine: the ratio of two beta functions, B((k+1)/2, (n-1)/2) / B(k/2, (n-1)/2)."""
    k, n = directions, parameters
    if n <= 1:
        return 1.0
    return math.exp(math.lgamma((k + 1) / 2) + math.lgamma((k + n - 1) / 2) - math.lgamma(k / 2)
                    - math.lgamma((k + n) / 2))  # fmt: skip


def cosine_interval(directions: int, parameters: int) -> tuple[float, float]:
    """Where 95 % of single estimates lie, from draws of the two chi-squared numbers."""
    if parameters <= 1:
        return 1.0, 1.0
    random = np.random.default_rng(SEED)
    along = random.chisquare(directions, DRAWS)
    low, high = np.percentile(np.sqrt(along / (along + random.chisquare(parameters - 1, DRAWS))), [2.5, 97.5])
    return float(low), float(high)


def measure_cosines(
    network: Network, gradient: Direction, *, forward: bool, difference: bool, budget_s: float = BUDGET_S
) -> list[Cosine]:
    """Cosines for growing numbers of directions, by forward mode and by differences along the same directions.

    A slow network gets fewer repeats, and fewer directions, but at least one estimate of one direction.
    """
    slopes: dict[str, Callable[[Direction], float]] = {}
    if forward:
        slopes["forward"] = network.slope
    if difference:
        slopes["zeroth_order"] = lambda direction: network.difference(direction, EPSILON)
    found: dict[int, dict[str, list[float]]] = {}
    began = monotonic_ns()
    for repeat in range(REPEATS):
        generator = torch.Generator().manual_seed(SEED + repeat)
        sums = {name: {key: torch.zeros_like(value) for key, value in gradient.items()} for name in slopes}
        for count in range(1, max(DIRECTIONS) + 1):
            if (repeat or count > 1) and (monotonic_ns() - began) / 1e9 > budget_s:
                return [_row(network.size, k, values) for k, values in sorted(found.items())]
            _add(network.random_direction(generator), slopes, sums)
            if count in DIRECTIONS:
                _note(found.setdefault(count, {name: [] for name in slopes}), sums, gradient)
    return [_row(network.size, k, values) for k, values in sorted(found.items())]


def _add(direction: Direction, slopes: dict[str, Callable[[Direction], float]], sums: dict[str, Direction]) -> None:
    for name, slope in slopes.items():
        size = slope(direction)
        for key, total in sums[name].items():
            total.add_(direction[key].to(total.dtype), alpha=size)


def _note(values: dict[str, list[float]], sums: dict[str, Direction], gradient: Direction) -> None:
    for name, total in sums.items():
        found = cosine(total, gradient)
        if found is not None:
            values[name].append(found)


def _row(size: int, directions: int, values: dict[str, list[float]]) -> Cosine:
    means = {name: float(np.mean(found)) if found else None for name, found in values.items()}
    low, high = cosine_interval(directions, size)
    return Cosine(
        directions=directions,
        repeats=max((len(found) for found in values.values()), default=0),
        forward=means.get("forward"),
        zeroth_order=means.get("zeroth_order"),
        expected=expected_cosine(directions, size),
        low=low,
        high=high,
        rule_of_thumb=math.sqrt(directions / size),
    )
