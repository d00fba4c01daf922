"""Noise of each layer and of all together, from the norms of every sampled update."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from longpole.analysis.noise_results import LayerNoise, NoiseCurve
from longpole.convergence.noise_estimator import Moments, mean_of, moments, noise_scale, signal_to_noise, smoothed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from longpole.convergence.noise_watch import Sample

LEAST_STEPS = 3  # sampled, for a figure to be given
LEAST_HALVED = 6  # sampled steps; with fewer of them none is left out
RESAMPLES = 1000
SEED = 20182
Measured: TypeAlias = "tuple[LayerNoise, Mapping[int, Moments]]"  # a row, and its estimates by step


@dataclass(frozen=True, slots=True)
class NamedLayer:
    """A module with parameters of its own."""

    path: str
    type: str
    parameters: tuple[int, ...]  # ids of those that learn
    elements: int
    is_matrix: bool


def step_weights(samples: Sequence[Sample]) -> dict[int, float]:
    """By step, one over the variance of all that was measured in it.

    The first steps' gradients are tens of times larger than later ones, and a plain mean would be theirs alone. With
    these weights each step counts alike, and within a step all layers are measured by the same rule.
    """
    found: dict[int, float] = {}
    for sample in samples:
        variance = sum(moments(parts).variance for parts in sample.by_parameter.values())
        if variance > 0:
            found[sample.step] = 1 / variance
    return found


def layer_noise(
    layer: NamedLayer, depth: int, samples: Sequence[Sample], weights: Mapping[int, float], batch: int | None
) -> Measured:
    """The layer's row, and its estimates by step, weighted."""
    row = LayerNoise(layer.path, layer.type, depth, layer.elements, layer.is_matrix)
    found: dict[int, Moments] = {}
    for sample in samples:
        parts = [sample.by_parameter[one] for one in layer.parameters if one in sample.by_parameter]
        if len(parts) == len(layer.parameters) and sample.step in weights:
            found[sample.step] = sum((moments(one) for one in parts), Moments(0.0, 0.0))
    row.steps = len(found)
    weighted = {step: one.scaled(weights[step]) for step, one in found.items()}
    if len(found) < LEAST_STEPS:
        row.not_covered = _why(layer, samples) or f"measured in {len(found)} steps only"
        return row, weighted
    mean = mean_of(settled(list(found.values())))
    row.squared_norm, row.variance = mean.squared_norm, mean.variance
    _fill(row, weighted, batch)
    return row, weighted


def settled(values: Sequence[Moments]) -> Sequence[Moments]:
    """The later half of the sampled steps: noise grows fast when a training begins, and one figure is wanted."""
    return values[len(values) // 2 :] if len(values) >= LEAST_HALVED else values


def _why(layer: NamedLayer, samples: Sequence[Sample]) -> str:
    reasons = Counter(
        sample.not_covered[one] for sample in samples for one in layer.parameters if one in sample.not_covered
    )
    return reasons.most_common(1)[0][0] if reasons else ("" if samples else "no step could be sampled")


def _fill(row: LayerNoise, found: Mapping[int, Moments], batch: int | None) -> None:
    values = list(found.values())
    mean = mean_of(settled(values))
    row.noise_scale = noise_scale(mean)
    row.low, row.high = _interval(settled(values))
    ratio = signal_to_noise(mean)
    row.signal_to_noise = ratio * batch if ratio is not None and batch else None
    running = smoothed(values)
    ratios = [signal_to_noise(one) for one in running]
    row.curve = NoiseCurve(
        list(found),
        [noise_scale(one) for one in running],
        [one * batch if one is not None and batch else None for one in ratios],
    )


def _interval(values: Sequence[Moments]) -> tuple[float | None, float | None]:
    """Of tr(Σ)/|G|²: quantiles of its inverse over steps drawn again. No upper end where |G|² may be 0."""
    both = np.array([(one.squared_norm, one.variance) for one in values])
    draws = np.random.default_rng(SEED).integers(0, len(both), (RESAMPLES, len(both)))
    means = both[draws].mean(axis=1)
    usable = means[means[:, 1] > 0]
    if len(usable) < RESAMPLES / 2:
        return None, None
    least, most = np.percentile(usable[:, 0] / usable[:, 1], [2.5, 97.5])
    return (1 / float(most) if most > 0 else None), (1 / float(least) if least > 0 else None)


def total_noise(measured: Sequence[Measured], samples: Sequence[Sample], batch: int | None) -> LayerNoise | None:
    """All covered layers as one vector, over the steps in which each was measured."""
    shared = [sample.step for sample in samples if all(sample.step in found for _, found in measured)]
    if not measured or len(shared) < LEAST_STEPS:
        return None
    sums = {step: sum((found[step] for _, found in measured), Moments(0.0, 0.0)) for step in shared}
    total = LayerNoise("", "total", -1, sum(row.parameters for row, _ in measured), False, len(shared))
    _fill(total, sums, batch)
    return total
