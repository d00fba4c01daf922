"""How much of an evaluation falls to a step: by its rhythm where it has one, else by how often it was met."""

from __future__ import annotations

import numpy as np
import pytest

from longpole.analysis.occasional import with_occasional
from longpole.trace import Level, Phase
from longpole.trace.trace import StepWindow

EACH_MS, TRAINING_MS = 15.0, 2.0


def reported(count: int, places: list[int], timed: list[int], stray_ms: float = 0.0) -> np.ndarray:
    """Evaluation's milliseconds in the timed ones of `count` steps, where it comes in the steps named.

    `stray_ms` of it seem to be in every step.
    """
    steps = [StepWindow(index, index * 100, index * 100 + 100, Level.PHASES, -1) for index in range(count)]
    rows = {index: np.zeros(len(Phase)) for index in range(count)}
    for index, row in rows.items():
        row[Phase.FORWARD] = TRAINING_MS
        row[Phase.EVALUATION] = EACH_MS * (index in places) + stray_ms
    found = with_occasional(np.array([rows[index] for index in timed]), steps, rows)
    assert (found[:, Phase.FORWARD] == TRAINING_MS).all()
    return found[:, Phase.EVALUATION]


@pytest.mark.parametrize("count", [70, 72, 74])
@pytest.mark.parametrize("first", range(4))
def test_what_comes_every_fifth_step_is_a_fifth_wherever_the_window_lies(count: int, first: int) -> None:
    timed = [0, 1, 2, 20, 21, 22, 23, 40, 41, 60]
    assert reported(count, list(range(first, count, 5)), timed).mean() == pytest.approx(EACH_MS / 5)


def test_what_has_no_rhythm_counts_as_often_as_it_was_met() -> None:
    assert reported(50, [3, 4, 20, 41, 47], [0, 3, 8, 9]).mean() == pytest.approx(EACH_MS * 5 / 50)


def test_what_came_in_one_stretch_only_is_not_taken_for_all_steps() -> None:
    assert reported(60, [0, 1, 2, 3], [0, 1, 30, 50]).mean() == pytest.approx(EACH_MS * 4 / 60)


def test_what_comes_in_every_step_is_left_as_it_was_timed() -> None:
    assert reported(20, list(range(20)), [4, 5]).tolist() == [EACH_MS, EACH_MS]


def test_a_trace_of_it_in_every_step_does_not_make_it_come_in_every_step() -> None:
    found = reported(75, list(range(2, 75, 5)), [0, 1, 3, 4, 7], stray_ms=0.01)
    assert found.mean() == pytest.approx((EACH_MS + 0.01) / 5)
