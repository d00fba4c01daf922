"""Whether the gradients of early layers are noisier: a rank correlation with its doubt, either way."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.noise_results import DepthTest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CLAIM = "the gradients of early layers are noisier than those of late ones"
LEAST_LAYERS = 5  # of four layers, no order is rarer than 1 in 12 both ways
EXACT_LAYERS = 8  # up to here every order is tried
DRAWS = 20_000
RESAMPLES = 1000
SIGNIFICANT = 0.05
SEED = 20181


def depth_test(signal: NDArray[np.float64], variance: NDArray[np.float64]) -> DepthTest:
    """`signal` and `variance`: |G|² and tr(Σ) by (layer in forward order, sampled step).

    In every step the layers are ranked by tr(Σ)/|G|², and a layer's noise is its mean rank: no step counts for more
    than another, though gradients shrink by orders of magnitude as a network learns. (Page 1963 tests a trend over
    ranks in blocks in this way.) The interval is over the sampled steps, drawn again with all layers together; p is
    over orders of the layers.
    """
    layers, steps = signal.shape
    if layers < LEAST_LAYERS or steps < 3:
        why = f"{layers} layers" if layers < LEAST_LAYERS else f"{steps} sampled steps"
        return DepthTest(CLAIM, "not decided", f"Not decided: {why} are too few to tell.", layers)
    ranks = rank_by_step(signal, variance)
    noise = _ranks(ranks.mean(1))
    correlation = spearman(noise)
    low, high = _interval(ranks)
    p = _p(noise, correlation)
    verdict = _verdict(correlation, low, high, p)
    return DepthTest(CLAIM, verdict, _sentence(verdict, correlation, low, high, p, layers), layers,
                     correlation, low, high, p)  # fmt: skip


def depth_correlation(signal: NDArray[np.float64], variance: NDArray[np.float64]) -> float:
    """The correlation of `depth_test`, without its doubt."""
    return spearman(_ranks(rank_by_step(signal, variance).mean(1)))


def rank_by_step(signal: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks of the layers by noise in every step, 0 the least noisy: by -|G|²/tr(Σ), ordered where |G|² is below 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(variance > 0, signal / variance, np.inf)
    return np.stack([_ranks(-column) for column in ratio.T], axis=1)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 the least; equal values share the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count + 1) / 2)[place.reshape(-1)]


def spearman(ranks: NDArray[np.float64]) -> float:
    """Correlation of these ranks with 0, 1, 2, ...; 0 where all are equal."""
    depth = np.arange(len(ranks), dtype=float)
    spread = float(np.std(ranks) * np.std(depth))
    return float(np.mean((ranks - ranks.mean()) * (depth - depth.mean()))) / spread if spread else 0.0


def _interval(ranks: NDArray[np.float64]) -> tuple[float, float]:
    random = np.random.default_rng(SEED)
    draws = random.integers(0, ranks.shape[1], (RESAMPLES, ranks.shape[1]))
    low, high = np.percentile([spearman(_ranks(ranks[:, draw].mean(1))) for draw in draws], [2.5, 97.5])
    return float(low), float(high)


def _p(ranks: NDArray[np.float64], correlation: float) -> float:
    """Two-sided: how often an order of the layers by chance is as far from none as this one."""
    reached = abs(correlation) - 1e-12
    if len(ranks) <= EXACT_LAYERS:
        orders = list(itertools.permutations(ranks.tolist()))
        return sum(abs(spearman(np.array(order))) >= reached for order in orders) / len(orders)
    random = np.random.default_rng(SEED)
    hits = sum(abs(spearman(random.permutation(ranks))) >= reached for _ in range(DRAWS))
    return (hits + 1) / (DRAWS + 1)


def _verdict(correlation: float, low: float, high: float, p: float) -> str:
    if p >= SIGNIFICANT or math.isnan(correlation) or low <= 0 <= high:
        return "not decided"
    return "supported" if correlation < 0 else "contradicted"


def _sentence(verdict: str, correlation: float, low: float, high: float, p: float, layers: int) -> str:
    begins = {
        "supported": "Supported on this network: the earlier the layer, the noisier its gradient",
        "contradicted": "Contradicted on this network: the later the layer, the noisier its gradient",
        "not decided": "Not decided on this network: depth and noise go together no more than chance would have them",
    }
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    figures = f"rank correlation {correlation:+.2f}, 95 % {low:+.2f} to {high:+.2f}, {chance}, {layers} layers"
    return f"{begins[verdict]} ({figures})."


def ordered(values: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Rows of equal length as a matrix, also where there is none."""
    return np.array(values, dtype=float).reshape(len(values), -1) if values else np.zeros((0, 0))
