"""The batch that gradient noise suggests, beside the one that time suggests: the best batch in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch

from longpole.analysis.noise_results import BatchAdvice
from longpole.convergence.noise_estimator import fastest_batch, seconds_beside_best
from longpole.convergence.noise_inputs import cut, tensors
from longpole.trace.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.noise_results import NoiseReport
    from longpole.convergence.noise_calls import Call

ROUNDS = 5  # of all sizes in turn, after one that warms up
SHARES = (0.25, 0.5, 1.0)  # of the script's own batch
NETWORK_ALONE = (
    "per example: forward and backward of the network alone on a quarter, a half and all of its last batch; fixed: "
    "what is left of the script's median step"
)


@dataclass(frozen=True, slots=True)
class StepTime:
    """A step takes fixed_s + per_example_s * batch seconds."""

    fixed_s: float
    per_example_s: float
    source: str


def time_of_step(call: Call, step_s: float, batch: int) -> StepTime | None:
    """How the script's step grows with its batch, from its own network on parts of its last batch.

    `batch` counts the examples of an update and `step_s` its seconds. Where an update has several micro-batches,
    what each of them costs whatever its size counts per example: more of them, not larger ones, make the batch.
    None where the network cannot run on a part of its inputs, or the sizes tell no slope.
    """
    if call.batch is None or call.batch.examples < 4:
        return None
    sizes = sorted({max(round(call.batch.examples * share), 1) for share in SHARES})
    try:
        timed = _times(call, sizes)
    except Exception:  # a script's own network may refuse anything
        return None
    micro = batch > call.batch.examples
    slope = timed[-1] / sizes[-1] if micro else _slope(sizes, timed)
    fixed = step_s - slope * batch
    if slope <= 0 or fixed <= 0:
        return None
    return StepTime(fixed, slope, NETWORK_ALONE)


def _slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    return float(np.polyfit(np.array(sizes, dtype=float), np.array(seconds), 1)[0])


def _times(call: Call, sizes: Sequence[int]) -> list[float]:
    """Median seconds of forward and backward by size, the sizes in turn so that drift cancels."""
    found: dict[int, list[float]] = {size: [] for size in sizes}
    for turn in range(ROUNDS + 1):
        for size in sizes:
            began = monotonic_ns()
            _forward_backward(call, size)
            if turn:
                found[size].append((monotonic_ns() - began) / 1e9)
    return [median(found[size]) for size in sizes]


def _forward_backward(call: Call, size: int) -> None:
    examples = call.batch.examples if call.batch is not None else size
    args, kwargs = cut((call.args, call.kwargs), examples, range(size))
    with torch.enable_grad():
        outputs = [out for out in tensors(call.module(*args, **kwargs)) if out.requires_grad]
        learning = [parameter for parameter in call.module.parameters() if parameter.requires_grad]
        torch.autograd.grad([out.float().mean() for out in outputs], learning, allow_unused=True)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def advise(report: NoiseReport, time: StepTime | None) -> BatchAdvice | None:
    """What noise and time say of the batch together. None where no noise was measured."""
    if report.total is None or report.batch is None:
        return None
    total = report.total
    advice = BatchAdvice(report.batch, total.noise_scale, total.low, total.high)
    if time is not None:
        advice.fixed_s, advice.per_example_s, advice.time_source = time.fixed_s, time.per_example_s, time.source
        if total.noise_scale is not None:
            advice.fastest = fastest_batch(total.noise_scale, time.fixed_s, time.per_example_s)
            advice.slowdown = seconds_beside_best(report.batch, total.noise_scale, time.fixed_s, time.per_example_s)
    advice.sentence = _sentence(advice, time)
    return advice


def _sentence(advice: BatchAdvice, time: StepTime | None) -> str:
    if advice.noise_scale is None:
        return "No batch is suggested: the noise scale could not be told."
    noise = f"Noise alone suggests a batch of about {advice.noise_scale:,.2g}, where steps and examples balance"
    if time is None or advice.fastest is None or advice.slowdown is None:
        return f"{noise}. How the step's time grows with the batch is not known, so no batch is the fastest."
    knee = time.fixed_s / time.per_example_s
    best = f"fewest seconds at about {advice.fastest:,.2g}, their geometric mean"
    rest = f"the script's {advice.batch} takes {advice.slowdown:.2f} times those seconds"
    doubt = " It assumes a learning rate tuned to each batch, and a noise scale that stays as it was measured."
    return f"{noise}; time alone, {knee:,.2g}, where half a step is fixed cost; {best}; {rest}.{doubt}"
