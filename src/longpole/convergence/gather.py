"""Runs every way of training with every seed, and keeps what is there when Ctrl-C or a failing run ends that."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from longpole.convergence.metrics import metrics_of, pick
from longpole.convergence.observed import StopAt
from longpole.convergence.runs import InterruptedRunError, Limits, Way, follow
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.convergence.metrics import Followed as FollowedMetric
    from longpole.convergence.observed import Observed
    from longpole.trace.clock import Clock


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    metric: str | None = None
    target: float | None = None
    direction: str | None = None
    seeds: int = 5
    max_steps: int | None = None
    budget_s: float | None = None
    to_the_end: bool = False  # else a run ends once it has reached a target that is asked for
    frozen: bool = False  # the ways are numbers of frozen layers, the first of them none
    tell: Callable[[str], None] = field(default=lambda _line: None)
    clock: Clock = time.monotonic_ns


@dataclass(slots=True)
class Gathered:
    """What the runs of each way gave, seed after seed, and what must be said about how they were made."""

    runs: list[list[tuple[int, Observed]]]
    warnings: list[str] = field(default_factory=list[str])
    interrupted: bool = False
    failed: str | None = None  # which run failed and how; none was made after it


def gather(ways: Sequence[Way], wish: Wish) -> Gathered:
    """Runs seed by seed, all ways one after the other: what the machine does meanwhile falls on all alike.

    After Ctrl-C, or a run that fails, what has been run by then. Raises KeyboardInterrupt where that is nothing, and
    LongpoleError where the first run of a way fails.
    """
    found = Gathered([[] for _ in ways])
    try:
        _run_all(ways, wish, found)
    except KeyboardInterrupt as error:
        _keep_what_is_there(found, error)
    if any(run.stopped == "budget" for runs in found.runs for _, run in runs):
        found.warnings.append("--budget ended a run early: it may have reached the target later")
    return found


def _keep_what_is_there(found: Gathered, error: KeyboardInterrupt) -> None:
    """A run that was cut short counts only where it is the only one."""
    found.interrupted = True
    if any(found.runs):
        found.warnings.append(f"interrupted: {_counted(found)}, the one that was cut short does not")
    elif isinstance(error, InterruptedRunError) and error.observed is not None and metrics_of(error.observed):
        found.runs[0].append((0, error.observed))
        found.warnings.append("interrupted in the first run: this is what it did by then")
    else:
        raise error


def _run_all(ways: Sequence[Way], wish: Wish, found: Gathered) -> None:
    begun, longest = wish.clock(), 0.0
    for seed in range(wish.seeds):
        spent = (wish.clock() - begun) / 1e9
        if seed and wish.budget_s is not None and spent + longest > wish.budget_s:
            found.warnings.append(
                f"--budget {wish.budget_s:g} s was enough for {seed} of {wish.seeds} seeds; give more for the others"
            )
            break
        for index, way in enumerate(ways):
            left = None if wish.budget_s is None else max(wish.budget_s - (wish.clock() - begun) / 1e9, 1.0)
            limits = Limits(wish.max_steps, left, _stop_at(found, wish))
            try:
                observed = follow(way, seed, limits, _returned(wish.metric))
                first = found.runs[0][0][1] if found.runs[0] else observed
                _check(way, observed, found.runs[index], metric_name(first, wish))
            except LongpoleError as error:
                if not seed:
                    raise
                found.failed = f"seed {seed + 1} of {wish.seeds} failed: {error}"
                found.warnings.append(f"{found.failed}; {_counted(found)}, and no run was made after it")
                return
            found.runs[index].append((seed, observed))
            wish.tell(_progress(way, seed, wish.seeds, observed))
        longest = max(longest, (wish.clock() - begun) / 1e9 - spent)


def _check(way: Way, observed: Observed, before: Sequence[tuple[int, Observed]], name: str) -> None:
    """Raises LongpoleError where this run cannot count beside those before it of the same way.

    A script whose first run failed, too, after its steps, is one that ends in that way.
    """
    if observed.stopped == "error" and before and before[0][1].stopped != "error":
        raise LongpoleError(f"{way.label}: {observed.notes[-1]}")
    metric_in(observed, name, way)


def _counted(found: Gathered) -> str:
    done = sum(len(runs) for runs in found.runs)
    return "1 finished run counts" if done == 1 else f"{done} finished runs count"


def _stop_at(found: Gathered, wish: Wish) -> StopAt | None:
    """Where the next run may end. The first run shows the metric's whole name, and the others go by that."""
    if wish.target is None or wish.to_the_end:
        return None
    asked = _without_call(wish.metric)
    if not found.runs[0]:
        return StopAt(wish.target, asked, direction=wish.direction)
    return StopAt(wish.target, metric_name(found.runs[0][0][1], wish), is_whole_name=True, direction=wish.direction)


def metric_name(first: Observed, wish: Wish) -> str:
    """What is followed, as the first run names it. Raises LongpoleError where the metric is not clear."""
    return pick(metrics_of(first), _without_call(wish.metric)).name


def metric_in(observed: Observed, name: str, way: Way) -> FollowedMetric:
    """Raises LongpoleError where the run has no such metric."""
    offered = metrics_of(observed)
    for one in offered:
        if one.name == name:
            return one
    raise LongpoleError(f"{way.label}: {name} was not seen in every run; there is: {pick(offered, None).name}")


def _returned(metric: str | None) -> str | None:
    """`--metric 'evaluate()'` asks for what a function returns."""
    return metric.removesuffix("()") if metric is not None and metric.endswith("()") else None


def _without_call(metric: str | None) -> str | None:
    return metric.removesuffix("()") if metric is not None else None


def _progress(way: Way, seed: int, seeds: int, observed: Observed) -> str:
    ends = observed.step_ends_ns
    ended = "stopped by longpole at the target" if observed.stopped == "target" else observed.stopped
    label = f"{way.label}, " if way.label != way.script else ""
    return f"{label}seed {seed + 1} of {seeds}: {len(ends)} steps, {(ends[-1] - ends[0]) / 1e9:.1f} s ({ended})"
