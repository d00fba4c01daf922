"""What `longpole converge --noise` found out, as stable JSON: how noisy each layer's gradient is. Only data.

Examples are places of the batch's first dimension. Scales are in examples, unknown is None.
"""

from __future__ import annotations

import msgspec


class NoiseCurve(msgspec.Struct):
    """Over the sampled steps, running means as documented in docs/gradient-noise.md; lists of one length."""

    steps: list[int] = []  # updates done before the sampled one
    noise_scale: list[float | None] = []
    signal_to_noise: list[float | None] = []  # of one batch


class LayerNoise(msgspec.Struct):
    """A layer with parameters of its own; `depth` is its place in the forward pass, 0 first."""

    path: str
    type: str
    depth: int
    parameters: int
    is_matrix: bool  # holds a weight of two dimensions or more, and is no embedding: in the test of depth
    steps: int = 0  # sampled steps in which it was measured; the figures here are of the later half of them
    squared_norm: float | None = None  # |G|², mean
    variance: float | None = None  # tr(Σ) of one example, mean
    noise_scale: float | None = None  # tr(Σ)/|G|², every step counted alike; None where |G|² is not told from 0
    low: float | None = None  # 95 % interval of noise_scale
    high: float | None = None  # None beside a `low`: no upper end, |G|² may be 0
    signal_to_noise: float | None = None  # |G|² B / tr(Σ), of one batch
    not_covered: str = ""  # why nothing was measured
    curve: NoiseCurve = msgspec.field(default_factory=NoiseCurve)


class DepthTest(msgspec.Struct):
    """Whether early layers' gradients are noisier: rank correlation of depth and noise scale."""

    claim: str  # what is tested, in words
    verdict: str  # supported | contradicted | not decided
    sentence: str
    layers: int  # in the test
    correlation: float | None = None  # Spearman's; negative: early layers are noisier
    low: float | None = None  # 95 % interval, over the sampled steps
    high: float | None = None
    p: float | None = None  # two-sided, over permutations of the layers
    all_layers_correlation: float | None = None  # norms, biases and embeddings too; in no verdict


class BatchAdvice(msgspec.Struct):
    """The batch that noise suggests beside the one that time suggests."""

    batch: int  # the script's own, all micro-batches of one update
    noise_scale: float | None = None
    low: float | None = None
    high: float | None = None
    fixed_s: float | None = None  # of a step, whatever the batch
    per_example_s: float | None = None
    time_source: str = ""  # how these two were found
    fastest: float | None = None  # sqrt(noise scale * fixed / per example)
    slowdown: float | None = None  # seconds to a loss at the script's batch over those at `fastest`
    sentence: str = ""


class NoiseReport(msgspec.Struct):
    """Gradient noise by layer and in total, while the script trained."""

    method: str  # parts of the batch | halves run again | micro-batches | none
    sentence: str = ""
    batch: int | None = None  # examples of one update
    part: float | None = None  # examples of the smaller gradients
    steps: int = 0  # seen
    sampled: int = 0
    every: int = 0
    decay: float = 0.0  # of the running means
    total: LayerNoise | None = None  # over the layers that are covered
    layers: list[LayerNoise] = []
    covered_share: float | None = None  # of the parameters that learn
    depth: DepthTest | None = None  # over the later half of the sampled steps
    depth_at_first: DepthTest | None = None  # over the first half
    advice: BatchAdvice | None = None
    measuring_share: float | None = None  # of the training's time, spent on measuring
    notes: list[str] = []
