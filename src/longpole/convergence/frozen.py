"""Frozen first layers: what each number of them saves a step, and what it costs in steps to the target. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.converge_results import FrozenRow, FrozenStudy
from longpole.convergence.compare import compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.converge_results import Side

MOST_NUMBERS = 6


def numbers_to_try(layers: int, most: int = MOST_NUMBERS) -> list[int]:
    """How many layers to freeze: each number up to all but the last layer, or `most` of them, spread evenly."""
    last = layers - 1
    if last <= most:
        return list(range(1, last + 1))
    return sorted({round(place) for place in np.linspace(1, last, most)})


def frozen_study(sides: Sequence[Side]) -> FrozenStudy:
    """The sides are numbers of frozen layers, the first of them none."""
    free = sides[0]
    rows = [_row(side, free) for side in sides]
    reached = [row for row in rows if row.seconds is not None]
    if not reached:
        return FrozenStudy(rows, None, "The target was reached with no number of frozen layers, not even none.")
    best, *others = sorted(reached, key=lambda row: row.seconds or 0.0)
    if best.frozen == 0:
        next_best = sides[rows.index(others[0])] if others else None
        return FrozenStudy(rows, 0, _none_is_best(next_best, free))
    return FrozenStudy(rows, best.frozen, _sentence(best, sides[rows.index(best)], free))


def _row(side: Side, free: Side) -> FrozenRow:
    frozen = int(side.changes.get("freeze", 0))
    layers = free.layers[:frozen]
    step_s, free_s = _step_time(side), _step_time(free)
    saving = None if step_s is None or free_s is None else free_s - step_s
    bests = [run.best for run in side.runs if run.best is not None]
    return FrozenRow(
        frozen=frozen,
        last_layer=layers[-1].path if layers else None,
        frozen_parameters=sum(layer.parameters for layer in layers),
        step_s=step_s,
        saving_s=saving,
        saving_share=None if saving is None or not free_s else saving / free_s,
        reached=sum(run.reached is not None for run in side.runs),
        runs=len(side.runs),
        steps=side.steps.mean,
        seconds=side.seconds.mean,
        best=float(np.median(bests)) if bests else None,
    )


def _step_time(side: Side) -> float | None:
    """The median over the seeds of the median step: what a step saves does not depend on the target."""
    known = [run.step_s for run in side.runs if run.step_s is not None]
    return float(np.median(known)) if known else None


def _none_is_best(next_best: Side | None, free: Side) -> str:
    if next_best is None:
        return "Freezing layers does not pay: with some frozen the target is not reached in enough runs."
    found = compare(free, next_best)
    if found.verdict == "later":
        return f"Freezing layers does not pay: {found.sentence}"
    return f"Freezing layers is not seen to pay: with none frozen the mean is the least. {found.sentence}"


def _sentence(best: FrozenRow, side: Side, free: Side) -> str:
    found = compare(free, side)
    saving = "not known" if best.saving_share is None else f"{best.saving_share:.0%}"
    said = f"Freezing the first {best.frozen} layers is best and saves {saving} of a step: {found.sentence}"
    return said if found.verdict == "sooner" else f"Freezing may or may not pay. {said}"
