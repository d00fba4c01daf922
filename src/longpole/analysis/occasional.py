"""What comes only now and then, an evaluation, a rollout, a checkpoint: how much of it falls to a step.

Deeper steps come in blocks and the steps after them are not timed, so the timed ones among them may hit every
evaluation or none. How often one comes is therefore counted over all steps of the window whose marks were kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.segments import EVERY_STEP, NOT_TRAINING
from longpole.trace import Level

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.trace import StepWindow

STRAY = 0.05  # of the most that a step holds of it: less is a sample that fell beside its place
LIGHT = (Level.NONE, Level.PHASES, Level.SITES)  # in deeper steps it takes longer than it does


def with_occasional(
    timed: NDArray[np.float64], watched: Sequence[StepWindow], rows: Mapping[int, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """The timed steps (a row a step, a column a phase) with as much of it as all watched steps say.

    `rows` are the milliseconds by phase of each watched step, by its index. What comes in nearly every step is
    left as it was timed.
    """
    found = timed.copy()
    for phase in NOT_TRAINING:
        taken = np.array([rows[step.index][phase] for step in watched])
        came = taken > STRAY * taken.max(initial=0.0)
        light = np.array([step.level in LIGHT for step in watched], dtype=bool)
        often = _how_often(np.flatnonzero(came), len(taken))
        if 0 < often < EVERY_STEP:
            each = taken[light & came]
            each = each if len(each) else taken[came]
            found[:, phase] = _spread(timed[:, phase], often, float(each.mean()))
    return found


def _how_often(places: NDArray[np.intp], count: int) -> float:
    """In what part of `count` steps it comes, given in which: by its rhythm, where it has one from end to end.

    What comes every fifth step comes 14 times in 74 steps, or 15 times: its rhythm does not depend on where one looks.
    """
    gaps = np.diff(places)
    if len(gaps) < 2 or gaps.max() - gaps.min() > 1:
        return len(places) / count if count else 0.0
    ends = max(int(places[0]), count - 1 - int(places[-1]))
    return float(1 / gaps.mean()) if ends <= gaps.max() else len(places) / count


def _spread(column: NDArray[np.float64], often: float, each_ms: float) -> NDArray[np.float64]:
    """The column with the mean `often * each_ms`: on the steps that have it, else on as many as would."""
    whole = often * each_ms * len(column)
    if column.any():
        return column * (whole / column.sum())
    every = max(round(1 / often), 1)
    found = np.zeros_like(column)
    found[min(every, len(column)) // 2 :: every] = 1.0
    return found * (whole / found.sum())
