"""The sentences that the question began with, as claims that a row bears out, contradicts or leaves open.

A claim is decided where the whole interval lies on one side of its threshold, and open where it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from longpole.survey.published import (
    BACKWARD_TO_FORWARD,
    CONTRACTIONS,
    EARLIER_SURVEYS,
    OPTIMIZER_OF_STEP,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.analysis.survey import Estimate, Row

HALF = 0.5
TWICE = (1.75, 2.25)  # what still counts as twice


@dataclass(frozen=True, slots=True)
class Judged:
    """One network's answer. `holds` is None where noise leaves it open."""

    network: str
    holds: bool | None
    figure: str


@dataclass(frozen=True, slots=True)
class Claim:
    """`judge` gives None where the row does not have what the claim is about."""

    asks: str
    sentence: str
    rule: str
    judge: Callable[[Row], Judged | None]
    published: Sequence[str] = ()


def above(row: Row, estimate: Estimate | None, threshold: float) -> Judged | None:
    """Whether a share lies above the threshold."""
    if estimate is None:
        return None
    return Judged(row.network, _side(estimate, threshold), percent(estimate))


def _side(estimate: Estimate, threshold: float) -> bool | None:
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return True if low > threshold else False if high < threshold else None


def passes(row: Row) -> Judged | None:
    return above(row, row.passes_share, HALF)


def twice(row: Row) -> Judged | None:
    found = row.backward_to_forward
    if found is None or found.low is None or found.high is None:
        return None
    within = TWICE[0] <= found.low and found.high <= TWICE[1]
    outside = found.high < TWICE[0] or found.low > TWICE[1]
    return Judged(row.network, True if within else False if outside else None, ratio(found))


def products(row: Row) -> Judged | None:
    judged = above(row, row.products_share, HALF)
    if judged is None or row.products_flops_share is None:
        return judged
    figure = f"{judged.figure} of the time, {row.products_flops_share * 100:.1f} % of the FLOPs"
    return Judged(judged.network, judged.holds, figure)


def leads(phases: Sequence[str]) -> Callable[[Row], Judged | None]:
    """Whether these phases are together the longest of the step's."""

    def judge(row: Row) -> Judged | None:
        if not row.phases:
            return None
        own = [row.phases[name] for name in phases if name in row.phases]
        others = [estimate for name, estimate in row.phases.items() if name not in phases]
        value = sum(estimate.value for estimate in own)
        low, high = (sum(_bounds(estimate)[at] for estimate in own) for at in (0, 1))
        lowest, highest = (max((_bounds(estimate)[at] for estimate in others), default=0.0) for at in (0, 1))
        holds = True if low > highest else False if high < lowest else None
        return Judged(row.network, holds, f"{value * 100:.1f} %")

    return judge


def _bounds(estimate: Estimate) -> tuple[float, float]:
    return (
        estimate.value if estimate.low is None else estimate.low,
        estimate.value if estimate.high is None else estimate.high,
    )


def cached(row: Row) -> Judged | None:
    """Bytes are counted, not sampled: no interval."""
    if row.saved_bytes is None or row.parameters_bytes is None:
        return None
    # Gradients are as large as the parameters.
    others = 2 * row.parameters_bytes + (row.optimizer_bytes or 0)
    each = f", {_size(row.saved_bytes / row.batch_size)} a sample" if row.batch_size else ""
    figure = f"{_size(row.saved_bytes)} beside {_size(others)}{each}"
    return Judged(row.network, row.saved_bytes > others, figure)


def one_part(row: Row) -> Judged | None:
    if row.pole_share is None:
        return None
    return Judged(row.network, row.pole_share < HALF, f"{row.pole_share * 100:.0f} % {row.pole}")


def both_gradients(row: Row) -> Judged | None:
    inputs, weights = row.input_grad_share, row.weight_grad_share
    if inputs is None or weights is None or not inputs.value or not weights.value:
        return None
    near = 0.5 <= inputs.value / weights.value <= 2
    return Judged(row.network, near, f"{inputs.value * 100:.0f} % and {weights.value * 100:.0f} %")


def serial(row: Row) -> Judged | None:
    if row.serial is None or row.serial.chain_share is None:
        return None
    chain = row.serial
    figure = f"{chain.layers} of {chain.of_layers} layers in a row, {row.serial.chain_share * 100:.0f} % of the time"
    return Judged(row.network, row.serial.chain_share > HALF, figure)


def batch_pays(row: Row) -> Judged | None:
    """Whether a sample still costs over 5 % more in this batch than it would in the largest ones."""
    found = row.over_batch
    if found is None or found.enough is None:
        return None
    low, high = (max(value, 1.0) for value in _bounds(found.enough))
    batch = max(found.batches)
    holds = True if low > batch else False if high <= batch else None
    figure = f"to a batch of {max(found.enough.value, 1.0):.0f} ({low:.0f}–{high:.0f}), {batch} ran"
    return Judged(row.network, holds, figure)


def threads_pay(row: Row) -> Judged | None:
    found = row.over_threads
    if found is None or found.gained is None:
        return None
    figure = f"{max(found.threads)} are {ratio(found.gained)} times as fast as one"
    return Judged(row.network, _side(found.gained, 1.0), figure)


def percent(estimate: Estimate) -> str:
    """`93 % (91–95)`."""
    low, high = _bounds(estimate)
    return f"{estimate.value * 100:.0f} % ({low * 100:.0f}–{high * 100:.0f})"


def ratio(estimate: Estimate) -> str:
    low, high = _bounds(estimate)
    return f"{estimate.value:.2f} ({low:.2f}–{high:.2f})"


def _size(size: float) -> str:
    return f"{size / 2**20:.3g} MiB" if size >= 2**20 else f"{size / 2**10:.3g} KiB"


CLAIMS: Sequence[Claim] = (
    Claim(
        "Do forward and backward take most of the time?",
        "The forward and backward passes take most of the time.",
        "yes where forward, loss and backward are over half of the step",
        passes,
        EARLIER_SURVEYS,
    ),
    Claim(
        "Is backward twice forward?",
        "Backward needs the gradient with respect to the input and to the parameters: two products for forward's one.",
        f"yes where backward over forward with its loss lies between {TWICE[0]} and {TWICE[1]}",
        twice,
        BACKWARD_TO_FORWARD,
    ),
    Claim(
        "Do the two gradients cost alike?",
        "Each layer needs both gradients, from high layers to low.",
        "yes where neither of input and weight gradients takes over twice the other's time",
        both_gradients,
    ),
    Claim(
        "Are the matrix products the time?",
        "Both passes hold large numbers of matrix multiplications.",
        "yes where matmul, convolution, attention and recurrent layers are over half of the step",
        products,
        CONTRACTIONS,
    ),
    Claim(
        "Does the optimizer ever lead?",
        "Forward and backward take most of the time, so the update should never be the longest phase.",
        "yes where optimizer and gradient clipping are the longest phase",
        leads(("optimizer", "clip")),
        OPTIMIZER_OF_STEP,
    ),
    Claim(
        "Does waiting for data ever lead?",
        "Forward and backward take most of the time, so input should never be what a step waits for longest.",
        "yes where data and its transfer are the longest phase",
        leads(("data", "transfer")),
    ),
    Claim(
        "Are cached outputs most of the memory?",
        "All intermediate outputs are cached for backward: high memory use.",
        "yes where what is saved for backward is more than parameters, gradients and optimizer state together",
        cached,
    ),
    Claim(
        "Is there no single hard and slow step?",
        "There is no single hard and slow step.",
        "yes where the longest part, like layers taken together, is less than half of the step",
        one_part,
    ),
    Claim(
        "Is most of the time serial, layer after layer?",
        "The forward pass is sequential from layer to layer.",
        "yes where the layers that must wait for one another take over half of the time of forward and backward",
        serial,
    ),
    Claim(
        "Does a larger batch still pay?",
        "Forward is parallel over the minibatch.",
        "yes where a sample costs over 5 % more in the batch that ran than it would in the largest ones",
        batch_pays,
    ),
    Claim(
        "Do more threads make it faster?",
        "Forward is parallel within a layer.",
        "yes where the most threads that ran are faster than one",
        threads_pay,
    ),
)
