"""The simple gradient noise scale from gradients of a batch and of its parts. Pure arithmetic, no torch.

McCandlish, Kaplan, Amodei and the OpenAI Dota team 2018, "An Empirical Model of Large-Batch Training", arXiv
1812.06162: E|g_B|² = |G|² + tr(Σ)/B for the mean gradient g_B of B examples (equation A.1), so two batch sizes give
both unknowns without bias (A.2 and A.3), and B_simple = tr(Σ)/|G|². A ratio of noisy figures is biased: numerator
and denominator are averaged apart, and divided last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DECAY = 0.9  # of the running means over sampled steps: about the last ten of them


@dataclass(frozen=True, slots=True)
class Moments:
    """One step's unbiased estimates; each may be negative by chance."""

    squared_norm: float  # of the true gradient, |G|²
    variance: float  # of one example's gradient, summed over its elements, tr(Σ)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.squared_norm + other.squared_norm, self.variance + other.variance)

    def scaled(self, by: float) -> Moments:
        return Moments(self.squared_norm * by, self.variance * by)


@dataclass(frozen=True, slots=True)
class Parts:
    """Squared norms of one batch's gradient and of its parts', each the mean over its own examples."""

    sizes: tuple[int, ...]  # examples in each part
    squared: tuple[float, ...]  # |g_k|² of each part
    whole: float  # |g|² of the batch

    @property
    def examples(self) -> int:
        return sum(self.sizes)


def moments(parts: Parts) -> Moments:
    """|G|² and tr(Σ) from one batch. Parts of unequal size count by the mean of 1/size, which keeps it unbiased.

    Raises ValueError for fewer than two parts: one size says nothing about the other unknown.
    """
    if len(parts.sizes) < 2:
        raise ValueError("a batch in fewer than two parts has no noise to measure")
    small = 1 / (sum(1 / size for size in parts.sizes) / len(parts.sizes))
    big = parts.examples
    mean = sum(parts.squared) / len(parts.squared)
    return Moments(
        squared_norm=(big * parts.whole - small * mean) / (big - small),
        variance=(mean - parts.whole) / (1 / small - 1 / big),
    )


def mean_of(samples: Sequence[Moments]) -> Moments:
    """The plain mean over steps."""
    count = max(len(samples), 1)
    return Moments(
        math.fsum(one.squared_norm for one in samples) / count, math.fsum(one.variance for one in samples) / count
    )


def smoothed(samples: Sequence[Moments], decay: float = DECAY) -> list[Moments]:
    """Running means with the start-up bias taken out: mean_t = Σ d^(t-i) x_i / Σ d^(t-i), i = 1..t."""
    kept, weight, out = Moments(0.0, 0.0), 0.0, list[Moments]()
    for one in samples:
        kept = Moments(decay * kept.squared_norm, decay * kept.variance) + Moments(
            (1 - decay) * one.squared_norm, (1 - decay) * one.variance
        )
        weight = decay * weight + (1 - decay)
        out.append(Moments(kept.squared_norm / weight, kept.variance / weight))
    return out


def noise_scale(found: Moments) -> float | None:
    """B_simple in examples; None where the gradient drowns in its noise, so that no scale can be told."""
    if found.squared_norm <= 0 or found.variance < 0:
        return None
    return found.variance / found.squared_norm


def signal_to_noise(found: Moments) -> float | None:
    """|G|²/tr(Σ) of one example: the inverse of the noise scale, and defined where |G|² is not told from 0."""
    return found.squared_norm / found.variance if found.variance > 0 else None


def fastest_batch(scale: float, fixed_s: float, per_example_s: float) -> float | None:
    """The batch, in examples, that reaches a loss in the fewest seconds. None where a figure is unusable.

    Steps to a loss are S_min (1 + scale/B) (section 2 of the paper), and a step takes fixed + per_example * B.
    The product is least at B = sqrt(scale * fixed / per_example): its derivative in B is
    per_example - fixed * scale / B².
    """
    if scale <= 0 or fixed_s <= 0 or per_example_s <= 0:
        return None
    return math.sqrt(scale * fixed_s / per_example_s)


def seconds_beside_best(batch: float, scale: float, fixed_s: float, per_example_s: float) -> float | None:
    """How many times the seconds of the fastest batch a training at this batch takes."""
    best = fastest_batch(scale, fixed_s, per_example_s)
    if best is None or batch <= 0:
        return None

    def seconds(size: float) -> float:
        return (1 + scale / size) * (fixed_s + per_example_s * size)

    return seconds(batch) / seconds(best)
