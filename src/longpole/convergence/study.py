"""Seconds to a target: runs every way of training with every seed, and puts the result together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from longpole.analysis.converge_results import Convergence, Metric, Side, Smoothing, Target
from longpole.convergence.compare import compare
from longpole.convergence.curves import Points, window_for
from longpole.convergence.frozen import frozen_study
from longpole.convergence.metrics import metrics_of, pick
from longpole.convergence.observed import StopAt
from longpole.convergence.reached import decided_after, is_of_batches
from longpole.convergence.runs import InterruptedRunError, Limits, Way, follow
from longpole.convergence.sides import Followed, Goal, side_of
from longpole.convergence.target import BY_ITS_NAME, choose, direction_for
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


def converge(ways: Sequence[Way], wish: Wish) -> Convergence:
    """Follows every way with every seed and says how long each takes to the target."""
    return conclude(ways, gather(ways, wish), wish)


def gather(ways: Sequence[Way], wish: Wish) -> Gathered:
    """Runs seed by seed, all ways one after the other: what the machine does meanwhile falls on all alike.

    After Ctrl-C, what has been run by then. Raises KeyboardInterrupt where that is nothing.
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
    done = sum(len(runs) for runs in found.runs)
    if done:
        counted = "1 finished run counts" if done == 1 else f"{done} finished runs count"
        found.warnings.append(f"interrupted: {counted}, the one that was cut short does not")
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
            observed = follow(way, seed, limits, _returned(wish.metric))
            found.runs[index].append((seed, observed))
            wish.tell(_progress(way, seed, wish.seeds, observed))
        longest = max(longest, (wish.clock() - begun) / 1e9 - spent)


def _stop_at(found: Gathered, wish: Wish) -> StopAt | None:
    """Where the next run may end. The first run shows the metric's whole name, and the others go by that."""
    if wish.target is None or wish.to_the_end:
        return None
    asked = _without_call(wish.metric)
    if not found.runs[0]:
        return StopAt(wish.target, asked, direction=wish.direction)
    return StopAt(wish.target, _name(found, wish), is_whole_name=True, direction=wish.direction)


def _name(found: Gathered, wish: Wish) -> str:
    return pick(metrics_of(found.runs[0][0][1]), _without_call(wish.metric)).name


def conclude(ways: Sequence[Way], gathered: Gathered, wish: Wish) -> Convergence:
    """From what was observed to the result. Raises LongpoleError where the metric is not clear."""
    name = _name(gathered, wish)
    begun = [(way, runs) for way, runs in zip(ways, gathered.runs, strict=True) if runs]  # an interrupt leaves some out
    metrics = [[_followed(observed, name, way) for _, observed in runs] for way, runs in begun]
    points = [[one.points for one in side] for side in metrics]
    metric = _metric(name, gathered, points, wish)
    window = _window([one for side in metrics for one in side], metric.direction, wish.target)
    target = _target(points[:1] if wish.frozen else points, metric.direction, window, wish)
    goal = Goal(target.value if target else None, metric.direction, window)
    sides = [
        side_of(way, [Followed(seed, seen, own) for (seed, seen), own in zip(runs, side, strict=True)], goal)
        for (way, runs), side in zip(begun, points, strict=True)
    ]
    result = Convergence(metric=metric, target=target, smoothing=_smoothing(window), sides=sides)
    result.interrupted = gathered.interrupted
    result.warnings = gathered.warnings + ([] if target else [_hopeless(metric)]) + _never_stopped(metric, wish)
    if wish.frozen:
        result.frozen = frozen_study(sides)
    elif len(sides) == 2 and target is not None:
        result.comparison = compare(sides[0], sides[1])
    result.headline = headline(result)
    return result


def headline(result: Convergence) -> str:
    """The answer in one sentence."""
    if result.metric is None or result.target is None:
        return "No target: " + " ".join(result.warnings)
    if result.comparison is not None:
        return result.comparison.sentence
    if result.frozen is not None:
        return result.frozen.sentence
    return _alone(result.sides[0], result.metric, result.target)


def _alone(side: Side, metric: Metric, target: Target) -> str:
    goal = f"{metric.name} {target.value:g}"
    seconds, steps = side.seconds, side.steps
    if seconds.mean is None or steps.mean is None or side.step_s is None:
        known = [run.best for run in side.runs if run.best is not None]
        reached = sum(run.reached is not None for run in side.runs)
        if reached or not known:
            return f"{goal} was reached in {reached} of {len(side.runs)} runs: no time to the target can be given."
        furthest = max(known) if metric.direction == "rises" else min(known)
        return f"{goal} was never reached in {len(side.runs)} runs; the best was {furthest:.4g}."
    spread = (
        "" if seconds.low is None or seconds.high is None else f" ({max(seconds.low, 0):.3g} to {seconds.high:.3g})"
    )
    return (
        f"{seconds.mean:.3g} s{spread} to {goal}: {steps.mean:.4g} steps at {side.step_s * 1e3:.3g} ms a step, "
        f"{seconds.sentence}."
    )


def _returned(metric: str | None) -> str | None:
    """`--metric 'evaluate()'` asks for what a function returns."""
    return metric.removesuffix("()") if metric is not None and metric.endswith("()") else None


def _without_call(metric: str | None) -> str | None:
    return metric.removesuffix("()") if metric is not None else None


def _followed(observed: Observed, name: str, way: Way) -> FollowedMetric:
    offered = metrics_of(observed)
    for one in offered:
        if one.name == name:
            return one
    raise LongpoleError(f"{way.label}: {name} was not seen in every run; there is: {pick(offered, None).name}")


def _window(metrics: Sequence[FollowedMetric], direction: str, target: float | None) -> int:
    """Goes by the shortest run; with a target that is asked for, by the run that is settled first.

    What a run does after it has reached the target then changes nothing, so that it may be stopped there.
    """
    of_batches = [is_of_batches(one) for one in metrics]
    counts = [len(one.points.values) for one in metrics]
    if target is not None:
        settled = [
            decided_after(one.points, target, direction, of_batches=each)
            for one, each in zip(metrics, of_batches, strict=True)
        ]
        counts = [count if early is None else early for count, early in zip(counts, settled, strict=True)]
    return window_for(counts, of_batches=all(of_batches))


def _never_stopped(metric: Metric, wish: Wish) -> list[str]:
    if wish.target is None or wish.to_the_end or wish.direction or metric.why == BY_ITS_NAME:
        return []
    return ["no run could be stopped at the target: the metric's name does not say which way is better (--direction)"]


def _metric(name: str, gathered: Gathered, points: list[list[Points]], wish: Wish) -> Metric:
    offered = metrics_of(gathered.runs[0][0][1])
    source = next(one.source for one in offered if one.name == name)
    known, why = direction_for(name, [one for side in points for one in side])
    direction, why = (wish.direction, "as asked") if wish.direction else (known, why)
    return Metric(name, source, direction, why, [one.name for one in offered if one.name != name])


def _target(points: list[list[Points]], direction: str, window: int, wish: Wish) -> Target | None:
    if wish.target is not None:
        return Target(wish.target, False, "as asked")
    return choose(points, direction, window)


def _smoothing(window: int) -> Smoothing:
    if window == 1:
        return Smoothing(1, "not smoothed: too few values")
    return Smoothing(window, f"centred mean over {window} values; reached where it and the mean of the next ones are")


def _hopeless(metric: Metric) -> str:
    way = "rise" if metric.direction == "rises" else "fall"
    return f"{metric.name} does not {way} in every run, so no target was chosen; give one with --target."


def _progress(way: Way, seed: int, seeds: int, observed: Observed) -> str:
    ends = observed.step_ends_ns
    ended = "stopped by longpole at the target" if observed.stopped == "target" else observed.stopped
    label = f"{way.label}, " if way.label != way.script else ""
    return f"{label}seed {seed + 1} of {seeds}: {len(ends)} steps, {(ends[-1] - ends[0]) / 1e9:.1f} s ({ended})"
