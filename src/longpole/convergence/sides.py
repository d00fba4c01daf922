"""From followed runs to a side of the result: every run's curve and crossing, and the spread over the seeds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.converge_results import Layer, SeedRun, Side
from longpole.convergence.curves import best, crossing, written
from longpole.convergence.metrics import step_seconds
from longpole.convergence.protocol import over_seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.convergence.curves import Points
    from longpole.convergence.observed import Observed
    from longpole.convergence.runs import Way

MOST_FOLLOWING_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Followed:
    """One run: its seed, what was observed, and the metric in it."""

    seed: int
    observed: Observed
    points: Points


@dataclass(frozen=True, slots=True)
class Goal:
    """What counts as done; `target` is None where none could be chosen."""

    target: float | None
    direction: str
    window: int


def side_of(way: Way, runs: Sequence[Followed], goal: Goal) -> Side:
    """A side of the result."""
    found = [seed_run(run, goal) for run in runs]
    steps = over_seeds([None if run.reached is None else float(run.reached.step) for run in found])
    seconds = over_seeds([None if run.reached is None else run.reached.seconds for run in found])
    first = runs[0].observed
    return Side(
        label=way.label,
        script=way.script,
        argv=way.argv,
        changes={name: value for name in ("init", "freeze") if (value := getattr(way.changes, name)) is not None},
        runs=found,
        steps=steps,
        seconds=seconds,
        step_s=_step_time(steps.mean, seconds.mean, found),
        batch_size=first.batch_size,
        parameters=first.parameters,
        layers=[Layer(layer.path, layer.type, layer.parameters) for layer in first.layers],
        notes=[*dict.fromkeys(note for run in runs for note in run.observed.notes), *_doubts(found, runs)],
    )


def seed_run(run: Followed, goal: Goal) -> SeedRun:
    observed, typical = run.observed, step_seconds(run.observed)
    ends = observed.step_ends_ns
    at = best(run.points, goal.direction, goal.window)
    reached = None if goal.target is None else crossing(run.points, goal.target, goal.direction, goal.window)
    if reached is not None and observed.stopped == "target":
        reached.left_again = None
    return SeedRun(
        seed=run.seed,
        steps=len(ends),
        seconds=(ends[-1] - ends[0]) / 1e9 + (typical or 0.0),
        step_s=typical,
        reached=reached,
        best=at[0] if at else None,
        best_step=at[1] if at else None,
        curve=written(run.points, goal.window),
        stopped=observed.stopped,
        following_share=observed.following_ns / 1e9 / typical if typical else None,
    )


def _step_time(steps: float | None, seconds: float | None, runs: Sequence[SeedRun]) -> float | None:
    """Seconds a step on the way to the target, so that it times the steps gives the seconds; else the median."""
    if steps and seconds is not None:
        return seconds / steps
    known = [run.step_s for run in runs if run.step_s is not None]
    return float(np.median(known)) if known else None


def _doubts(found: Sequence[SeedRun], runs: Sequence[Followed]) -> list[str]:
    doubts: list[str] = []
    if len(runs) > 1 and len({_bits(run.points) for run in runs}) == 1:
        doubts.append(
            "the seed changes nothing: every run gives the same curve, so the spread is that of the machine alone"
        )
    elif len(runs) > 2 and len({_bits(run.points) for run in runs}) < len(runs):
        doubts.append("some seeds give the same curve: the script draws less by them than it seems")
    shares = [run.following_share for run in found if run.following_share is not None]
    if shares and max(shares) > MOST_FOLLOWING_SHARE:
        doubts.append(f"following cost {max(shares):.1%} of so short a step; seconds are that much too long")
    stopped = sum(run.stopped == "target" for run in found)
    if stopped:
        doubts.append(
            f"{stopped} of {len(found)} runs were stopped by longpole at the target; their best is that up to there "
            "(--to-the-end lets them go on)"
        )
    again = sum(run.reached is not None and bool(run.reached.left_again) for run in found)
    if again:
        doubts.append(f"the target was left again in {again} of {len(found)} runs: it got worse after it was reached")
    return doubts


def _bits(points: Points) -> bytes:
    return points.steps.tobytes() + points.values.tobytes()
