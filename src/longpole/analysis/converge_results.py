"""What `longpole converge` found out, as stable JSON: the curves of every seed, and how long each took to the target.

Only data, so that reports and other tools read it without torch. Unknown is None. Times are seconds.
Version 1: the first.
"""

from __future__ import annotations

from typing import Any

import msgspec

from longpole.analysis.noise_results import NoiseReport
from longpole.analysis.without_backprop_results import WithoutBackprop

SCHEMA = "longpole.convergence"
VERSION = 1


class Metric(msgspec.Struct):
    """The figure that is followed."""

    name: str
    source: str  # backward | printed | logged | returned
    direction: str  # falls | rises
    why: str = ""  # how the direction is known
    others: list[str] = []  # what else the script says, for --metric


class Target(msgspec.Struct):
    value: float
    chosen: bool  # True: by longpole, so that every run reaches it
    sentence: str = ""


class Smoothing(msgspec.Struct):
    """A centred mean over `window` values, the same for every run."""

    window: int
    sentence: str = ""


class Curve(msgspec.Struct):
    """The metric over the run; lists of one length, thinned evenly where there are very many values."""

    steps: list[int] = []  # updates done when the value became known; 1 is the first
    seconds: list[float] = []  # from the beginning of the first step
    values: list[float | None] = []  # None: not finite
    smoothed: list[float | None] = []


class Crossing(msgspec.Struct):
    """The first step at which the target is held to be reached."""

    step: int
    seconds: float
    value: float  # smoothed
    resolution: int = 1  # steps from the value before: between them nothing is known
    raw_step: int | None = None  # the first unsmoothed value at or past the target
    left_again: int | None = 0  # later smoothed values that are worse than the target; None: the run was stopped there


class SeedRun(msgspec.Struct):
    """One training with one seed."""

    seed: int
    steps: int
    seconds: float  # of all its steps
    step_s: float | None = None  # median
    reached: Crossing | None = None
    best: float | None = None  # smoothed
    best_step: int | None = None
    curve: Curve = msgspec.field(default_factory=Curve)
    stopped: str = "script end"  # script end | target | max steps | budget | interrupt | error
    following_share: float | None = None  # of the step: what following the run cost
    notes: list[str] = []


class Spread(msgspec.Struct):
    """A figure over the seeds: fastest and slowest dropped, mean of the rest (MLPerf's protocol)."""

    mean: float | None = None
    low: float | None = None  # 95 % interval
    high: float | None = None
    least: float | None = None
    most: float | None = None
    runs: int = 0
    dropped: int = 0
    sentence: str = ""  # what was done, in words


class Layer(msgspec.Struct):
    """A layer with parameters of its own, in the order of the first forward pass."""

    path: str
    type: str
    parameters: int


class Side(msgspec.Struct):
    """One way of training, over its seeds."""

    label: str
    script: str
    argv: list[str] = []
    changes: dict[str, Any] = {}
    runs: list[SeedRun] = []
    steps: Spread = msgspec.field(default_factory=Spread)  # to the target
    seconds: Spread = msgspec.field(default_factory=Spread)  # to the target
    step_s: float | None = None  # seconds a step: `seconds` over `steps` to the target, or the median of all
    batch_size: int | None = None
    parameters: int | None = None
    layers: list[Layer] = []
    notes: list[str] = []


class Part(msgspec.Struct):
    """B over A, as a ratio of geometric means over the seeds, with its 95 % interval (Welch, on logarithms)."""

    ratio: float
    log: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


class Comparison(msgspec.Struct):
    """Two sides; log(seconds) = log(steps) + log(step_time), exactly."""

    before: str
    after: str
    verdict: str  # sooner | later | not different | not known: of `after`
    sentence: str
    method: str
    seconds: Part | None = None
    steps: Part | None = None
    step_time: Part | None = None
    fewer_steps: int | None = None  # seeds on which `after` needed fewer steps than `before` with the same seed
    pairs: int = 0  # seeds that both sides ran with


class FrozenRow(msgspec.Struct):
    """The first `frozen` layers do not learn."""

    frozen: int
    last_layer: str | None  # the last of the frozen ones
    frozen_parameters: int
    step_s: float | None
    saving_s: float | None  # a step, against no frozen layer
    saving_share: float | None
    reached: int  # runs of all
    runs: int
    steps: float | None
    seconds: float | None
    best: float | None  # median over the seeds of the best smoothed value


class FrozenStudy(msgspec.Struct):
    rows: list[FrozenRow] = []
    best: int | None = None  # frozen layers with the fewest seconds to the target
    sentence: str = ""


class Convergence(msgspec.Struct):
    """The whole result. `noise` and `without_backprop` are sections that are measured in runs of their own."""

    schema: str = SCHEMA
    version: int = VERSION
    headline: str = ""
    metric: Metric | None = None
    target: Target | None = None
    smoothing: Smoothing | None = None
    sides: list[Side] = []
    comparison: Comparison | None = None
    frozen: FrozenStudy | None = None
    noise: NoiseReport | None = None
    without_backprop: WithoutBackprop | None = None
    interrupted: bool = False  # by the user, before all runs were done
    failed: str | None = None  # which run failed and how; none was made after it
    warnings: list[str] = []

    def to_json(self) -> bytes:
        """Indented UTF-8 JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)
