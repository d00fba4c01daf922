"""What `longpole converge --without-backprop` found out, as stable JSON: what a gradient costs on this network.

Only data. Times are seconds, unknown is None.
"""

from __future__ import annotations

import msgspec


class GradientWay(msgspec.Struct):
    """One way to a gradient of all parameters, or to an estimate of it."""

    name: str
    exact: bool  # False: an estimate in one direction
    evaluations: int  # of `unit`, for the whole gradient or the one estimate
    unit: str  # what is run that often: a tangent, a loss, a forward and backward pass
    unit_s: float | None = None  # median
    seconds: float | None = None  # evaluations * unit_s
    measured: int = 0  # of the evaluations; fewer than all: `seconds` is extrapolated
    beside_reverse: float | None = None  # seconds over those of reverse mode
    peak_bytes: int | None = None  # held at once beyond parameters, inputs and what was there before
    error: float | None = None  # largest difference from reverse mode's, over the largest element compared
    note: str = ""


class Bound(msgspec.Struct):
    """The cheap-gradient bound: a gradient by reverse mode costs a small multiple of the function."""

    function_s: float
    gradient_s: float
    ratio: float
    low: float  # over the rounds: 10 % and 90 %
    high: float
    bound: float
    holds: bool
    sentence: str = ""


class Cosine(msgspec.Struct):
    """The estimate from so many directions beside the true gradient."""

    directions: int
    repeats: int
    forward: float | None  # mean cosine, slopes by forward mode
    zeroth_order: float | None  # mean cosine, slopes by differences of two losses
    expected: float  # of the mean, by theory
    low: float  # 95 % of single estimates, by theory
    high: float
    rule_of_thumb: float  # sqrt(directions / parameters)


class Racer(msgspec.Struct):
    """One way of training, its learning rate tuned, over seeds."""

    name: str
    learning_rate: float | None
    tried: list[float]
    seeds: int
    reached: int
    seconds: list[float | None]  # to the target, by seed; None: not within the limit
    steps: list[int | None]
    best: list[float]  # lowest loss, by seed
    step_s: float | None = None
    peak_bytes: int | None = None
    median_s: float | None = None  # None where half of the seeds or more did not reach it


class Race(msgspec.Struct):
    """Seconds to the same loss."""

    problem: str
    parameters: int
    target: float
    limit_s: float  # a run
    racers: list[Racer] = []
    sentence: str = ""


class WithoutBackprop(msgspec.Struct):
    """A gradient of this network, on a batch of its own, by every way."""

    network: str
    parameters: int
    tensors: int
    batch: int | None
    loss: str  # which function was differentiated
    agreement: float | None = None  # cosine of its gradient with the one that the script got
    ways: list[GradientWay] = []
    bound: Bound | None = None
    cosines: list[Cosine] = []
    sentence: str = ""
    notes: list[str] = []
    race: Race | None = None
