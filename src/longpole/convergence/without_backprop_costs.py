"""What a gradient costs by each way on a captured network: timed in turn, extrapolated where it takes too long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from longpole.analysis.without_backprop_results import Bound, GradientWay
from longpole.convergence.without_backprop_memory import peak_bytes
from longpole.trace.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.convergence.without_backprop_network import Direction, Network

ROUNDS = 9  # of all ways in turn, after one that warms up
LEAST_ROUNDS = 3
BUDGET_S = 30.0  # for the rounds; slow networks get fewer
ELEMENTS = 16  # of the gradient that are computed by forward mode and by differences, and compared
EPSILON = 1e-3  # as far as MeZO goes (Malladi et al. 2023, arXiv 2305.17333, appendix)
GRIEWANK = 5.0
SEED = 20191


@dataclass(slots=True)
class Timings:
    """Seconds of each round, by way; a way that failed has its reason instead."""

    seconds: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    failed: dict[str, str] = field(default_factory=dict[str, str])

    def median(self, name: str) -> float | None:
        found = self.seconds.get(name)
        return float(np.median(found)) if found else None


def time_ways(network: Network, budget_s: float = BUDGET_S) -> Timings:
    """The loss alone, its gradient by reverse mode, one tangent, one difference of two losses; in turn."""
    direction = network.random_direction(torch.Generator().manual_seed(SEED))
    ways: dict[str, Callable[[], object]] = {
        "function": network.value,
        "reverse": network.gradient,
        "forward": lambda: network.slope(direction),
        "difference": lambda: network.difference(direction, EPSILON),
    }
    timings = Timings()
    began = monotonic_ns()
    for turn in range(ROUNDS + 1):
        for name, run in ways.items():
            if name not in timings.failed:
                _time(name, run, timings, keep=turn > 0)
        if turn >= LEAST_ROUNDS and (monotonic_ns() - began) / 1e9 > budget_s:
            break
    return timings


def _time(name: str, run: Callable[[], object], timings: Timings, *, keep: bool) -> None:
    began = monotonic_ns()
    try:
        run()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        timings.failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        timings.seconds.pop(name, None)
        return
    if keep:
        timings.seconds.setdefault(name, []).append((monotonic_ns() - began) / 1e9)


def errors_of(network: Network, gradient: Direction, timings: Timings) -> dict[str, float | None]:
    """Forward mode and differences beside reverse mode, on the same few elements: chosen at random, by tensor size.

    Of the largest difference, over the largest of the elements compared.
    """
    places = _elements(network)
    true = np.array([float(gradient[name].reshape(-1)[index]) for name, index in places])
    largest = float(np.abs(true).max()) if len(true) else 0.0
    found: dict[str, float | None] = {}
    for name, slope in (
        ("forward", network.slope),
        ("difference", lambda direction: network.difference(direction, EPSILON)),
    ):
        if name in timings.failed or not largest:
            found[name] = None
            continue
        values = np.array([slope(network.element(*place)) for place in places])
        found[name] = float(np.abs(values - true).max()) / largest
    return found


def _elements(network: Network) -> list[tuple[str, int]]:
    random = np.random.default_rng(SEED)
    names = list(network.parameters)
    ends = np.cumsum([network.parameters[name].numel() for name in names])
    picked = random.choice(network.size, min(ELEMENTS, network.size), replace=False)
    found: list[tuple[str, int]] = []
    for place in sorted(int(one) for one in picked):
        tensor = int(np.searchsorted(ends, place, side="right"))
        found.append((names[tensor], place - (int(ends[tensor - 1]) if tensor else 0)))
    return found


def ways_of(network: Network, timings: Timings, errors: dict[str, float | None]) -> list[GradientWay]:
    """The table: three ways to the whole gradient, two to an estimate in one direction."""
    size, compared = network.size, min(ELEMENTS, network.size)
    direction = network.random_direction(torch.Generator().manual_seed(SEED))
    peaks = {
        "reverse": _peak("reverse", network.gradient, timings),
        "forward": _peak("forward", lambda: network.slope(direction), timings),
        "difference": _peak("difference", lambda: network.difference(direction, EPSILON), timings),
    }
    ways = [
        GradientWay("reverse mode (backpropagation)", True, 1, "forward and backward pass", measured=1, error=0.0),
        GradientWay("forward mode", True, size, "tangent", measured=compared, error=errors["forward"]),
        GradientWay("finite differences", True, size, "pair of losses", measured=compared, error=errors["difference"],
                    note=f"central, {EPSILON:g} to either side"),
        GradientWay("forward gradient", False, 1, "tangent", measured=1),
        GradientWay("zeroth order (MeZO)", False, 1, "pair of losses", measured=1),
    ]  # fmt: skip
    for way, name in zip(ways, ("reverse", "forward", "difference", "forward", "difference"), strict=True):
        _fill(way, name, timings, peaks)
    return ways


def _fill(way: GradientWay, name: str, timings: Timings, peaks: dict[str, int | None]) -> None:
    reverse = timings.median("reverse")
    way.unit_s = timings.median(name)
    way.peak_bytes = peaks[name]
    if name in timings.failed:
        way.measured, way.note = 0, f"not possible here: {timings.failed[name]}"
    if way.unit_s is not None:
        way.seconds = way.unit_s * way.evaluations
        way.beside_reverse = way.seconds / reverse if reverse else None


def _peak(name: str, run: Callable[[], object], timings: Timings) -> int | None:
    return None if name in timings.failed else peak_bytes(run)


def bound_of(timings: Timings) -> Bound | None:
    """Reverse mode beside the function, round by round, and the bound on it.

    Griewank 1989 ("On Automatic Differentiation", in Mathematical Programming, pp. 83-107): never more than five
    times the function; Baur and Strassen 1983 (Theoretical Computer Science 22) count arithmetic alone.
    """
    function, reverse = timings.seconds.get("function"), timings.seconds.get("reverse")
    if not function or not reverse:
        return None
    ratios = np.array(reverse[: len(function)]) / np.array(function[: len(reverse)])
    ratio = float(np.median(ratios))
    low, high = (float(one) for one in np.percentile(ratios, [10, 90]))
    bound = Bound(float(np.median(function)), float(np.median(reverse)), ratio, low, high, GRIEWANK, ratio <= GRIEWANK)
    verdict = "within" if bound.holds else "beyond"
    bound.sentence = (
        f"The whole gradient took {ratio:.2f} times the function ({low:.2f} to {high:.2f}), {verdict} the bound of "
        f"{GRIEWANK:g} for reverse mode; the bound counts operations, and time has memory traffic in it, too."
    )
    return bound
