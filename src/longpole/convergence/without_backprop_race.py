"""Seconds to the same loss: backpropagation, forward gradients, and two losses a step (MeZO), each at its best rate.

Forward gradient: Baydin, Pearlmutter, Syme, Wood and Torr 2022, arXiv 2202.08587. MeZO: Malladi et al. 2023, arXiv
2305.17333, which perturbs the weights in place from a seed and keeps no direction in memory. All three are plain
gradient descent, so that only the gradient differs. Seconds are those that this thread computed: set torch to one
thread, and nothing else that runs on the machine is in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import thread_time_ns
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call

from longpole.analysis.without_backprop_results import Race, Racer
from longpole.convergence.without_backprop_memory import peak_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EPSILON = 1e-3  # MeZO's
LOOK_EVERY = 5  # steps from one look at the held-out loss to the next; looking does not count as time
MOST_SEED = 2**31
TUNING_SEED = 999_983  # of the runs that choose the rate: no seed of the race


@dataclass(frozen=True, slots=True)
class Problem:
    """What is raced on. `batch(generator)` draws inputs and targets; `loss` is the mean over a batch."""

    name: str
    make: Callable[[], nn.Module]
    batch: Callable[[torch.Generator], tuple[torch.Tensor, torch.Tensor]]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    held_out: tuple[torch.Tensor, torch.Tensor]
    target: float  # held-out loss


@dataclass(frozen=True, slots=True)
class Method:
    """`step(model, loss of the model, rate, generator)` changes the model's parameters once."""

    name: str
    step: Callable[[nn.Module, Callable[[nn.Module], torch.Tensor], float, torch.Generator], None]
    rates: Sequence[float]


@dataclass(frozen=True, slots=True)
class Run:
    """One training. `seconds` and `steps` are to the target, None where it was not reached."""

    seconds: float | None
    steps: int | None
    best: float
    step_s: float


def backpropagation(
    model: nn.Module, loss: Callable[[nn.Module], torch.Tensor], rate: float, generator: torch.Generator
) -> None:
    del generator
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss(model), parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=rate)


def forward_gradient(
    model: nn.Module, loss: Callable[[nn.Module], torch.Tensor], rate: float, generator: torch.Generator
) -> None:
    """One random direction, its slope by forward mode, a step along it: nothing is kept for backward."""
    named = dict(model.named_parameters())
    directions = {name: torch.randn(value.shape, generator=generator) for name, value in named.items()}
    with torch.no_grad(), forward_ad.dual_level():
        duals = {name: forward_ad.make_dual(value.detach(), directions[name]) for name, value in named.items()}
        value = loss(_With(model, duals))
        tangent = forward_ad.unpack_dual(value).tangent
    slope = 0.0 if tangent is None else float(tangent)
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.sub_(directions[name], alpha=rate * slope)


def two_losses(
    model: nn.Module, loss: Callable[[nn.Module], torch.Tensor], rate: float, generator: torch.Generator
) -> None:
    """MeZO: the direction is drawn again from its seed each time that it is needed, and never kept."""
    seed = int(torch.randint(MOST_SEED, (1,), generator=generator))
    with torch.no_grad():
        _move(model, seed, EPSILON)
        ahead = float(loss(model))
        _move(model, seed, -2 * EPSILON)
        behind = float(loss(model))
        _move(model, seed, EPSILON)
        _move(model, seed, -rate * (ahead - behind) / (2 * EPSILON))


def _move(model: nn.Module, seed: int, by: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=by)


class _With(nn.Module):
    """A model with other tensors in the place of its parameters."""

    def __init__(self, model: nn.Module, parameters: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self._run = lambda x: functional_call(model, parameters, (x,))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._run(x)


METHODS = (
    Method("backpropagation", backpropagation, (0.1, 0.3, 0.6, 1.0)),
    Method("forward gradient", forward_gradient, (0.003, 0.006, 0.012, 0.025, 0.05)),
    Method("two losses (MeZO)", two_losses, (0.003, 0.006, 0.012, 0.025, 0.05)),
)


def race(
    problem: Problem, seeds: int, limit_s: float, tell: Callable[[str], None] = lambda _: None,
    methods: Sequence[Method] = METHODS,
) -> Race:  # fmt: skip
    """Tunes each method's rate on a seed of its own, then runs the seeds in turn, method by method within each."""
    rates = {method.name: _tune(problem, method, limit_s, tell) for method in methods}
    runs: dict[str, list[Run]] = {method.name: [] for method in methods}
    for seed in range(seeds):
        for method in methods:
            rate = rates[method.name]
            runs[method.name].append(train(problem, method, rate, seed, limit_s))
            tell(f"{method.name}, seed {seed}: {runs[method.name][-1]}")
    racers = [_racer(problem, method, rates[method.name], runs[method.name]) for method in methods]
    size = sum(parameter.numel() for parameter in problem.make().parameters())
    found = Race(problem.name, size, problem.target, limit_s, racers)
    found.sentence = _sentence(found)
    return found


def _tune(problem: Problem, method: Method, limit_s: float, tell: Callable[[str], None]) -> float:
    """The rate that is first at the target, or, where none gets there, lowest in the end."""
    tried: list[tuple[float, float, float]] = []
    for rate in method.rates:
        run = train(problem, method, rate, TUNING_SEED, limit_s)
        tried.append((float("inf") if run.seconds is None else run.seconds, run.best, rate))
        tell(f"{method.name} at {rate:g}: {run}")
    return min(tried)[2]


def train(problem: Problem, method: Method, rate: float, seed: int, limit_s: float) -> Run:
    """One training until the held-out loss is at the target, or the seconds are used up, or it diverges."""
    torch.manual_seed(seed)
    model = problem.make()
    generator = torch.Generator().manual_seed(seed)
    spent_ns, steps, best = 0, 0, _held_out(problem, model)
    while spent_ns < limit_s * 1e9:
        began = thread_time_ns()
        for _ in range(LOOK_EVERY):
            x, y = problem.batch(generator)
            method.step(model, lambda m, x=x, y=y: problem.loss(m(x), y), rate, generator)
        spent_ns += thread_time_ns() - began
        steps += LOOK_EVERY
        now = _held_out(problem, model)
        if not now < 1e6:  # not a number, too
            break
        best = min(best, now)
        if now <= problem.target:
            return Run(spent_ns / 1e9, steps, best, spent_ns / 1e9 / steps)
    return Run(None, None, best, spent_ns / 1e9 / max(steps, 1))


def _held_out(problem: Problem, model: nn.Module) -> float:
    x, y = problem.held_out
    with torch.no_grad():
        return float(problem.loss(model(x), y))


def _racer(problem: Problem, method: Method, rate: float, runs: Sequence[Run]) -> Racer:
    seconds = [run.seconds for run in runs]
    reached = [value for value in seconds if value is not None]
    ranked = sorted(float("inf") if value is None else value for value in seconds)
    middle = median(ranked) if ranked else float("inf")
    return Racer(
        name=method.name,
        learning_rate=rate,
        tried=list(method.rates),
        seeds=len(runs),
        reached=len(reached),
        seconds=seconds,
        steps=[run.steps for run in runs],
        best=[run.best for run in runs],
        step_s=median(run.step_s for run in runs) if runs else None,
        peak_bytes=_peak(problem, method, rate),
        median_s=middle if middle < float("inf") else None,
    )


def _peak(problem: Problem, method: Method, rate: float) -> int | None:
    model, generator = problem.make(), torch.Generator().manual_seed(0)
    x, y = problem.batch(generator)
    return peak_bytes(lambda: method.step(model, lambda m: problem.loss(m(x), y), rate, generator))


def _sentence(found: Race) -> str:
    first = found.racers[0]
    if first.median_s is None:
        return f"{first.name.capitalize()} did not reach a loss of {found.target:g} in {found.limit_s:g} s."
    parts: list[str] = []
    for one in found.racers[1:]:
        if one.median_s is None:
            parts.append(f"{one.name} got there within {found.limit_s:g} s on {one.reached} of {one.seeds} seeds")
        else:
            lost = one.seeds - one.reached
            failed = f", and not within {found.limit_s:g} s on {lost} of {one.seeds} seeds" if lost else ""
            times = one.median_s / first.median_s
            parts.append(f"{one.name} took {one.median_s:.3g} s, {times:,.0f} times as long{failed}")
    return f"To a loss of {found.target:g}: {first.name} {first.median_s:.2g} s; {'; '.join(parts)}."
