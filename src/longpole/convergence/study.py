"""Seconds to a target: from what the runs of every way of training gave to the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.analysis.converge_results import Convergence, Metric, Side, Smoothing, Target
from longpole.convergence.compare import compare
from longpole.convergence.curves import Points, window_for
from longpole.convergence.frozen import frozen_study
from longpole.convergence.gather import gather, metric_in, metric_name
from longpole.convergence.metrics import metrics_of
from longpole.convergence.reached import decided_after, is_of_batches
from longpole.convergence.sides import Followed, Goal, side_of
from longpole.convergence.target import BY_ITS_NAME, choose, direction_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.convergence.gather import Gathered, Wish
    from longpole.convergence.metrics import Followed as FollowedMetric
    from longpole.convergence.runs import Way


def converge(ways: Sequence[Way], wish: Wish) -> Convergence:
    """Follows every way with every seed and says how long each takes to the target."""
    return conclude(ways, gather(ways, wish), wish)


def conclude(ways: Sequence[Way], gathered: Gathered, wish: Wish) -> Convergence:
    """From what was observed to the result. Raises LongpoleError where the metric is not clear."""
    name = metric_name(gathered.runs[0][0][1], wish)
    begun = [(way, runs) for way, runs in zip(ways, gathered.runs, strict=True) if runs]  # Ctrl-C leaves some out
    metrics = [[metric_in(observed, name, way) for _, observed in runs] for way, runs in begun]
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
    result.interrupted, result.failed = gathered.interrupted, gathered.failed
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
