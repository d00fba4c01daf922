"""Thresholds of the answers: half of the step is a yes, less than a quarter a no, doubt makes it partly."""

from __future__ import annotations

import pytest

from longpole.analysis.answers import answers_of, verdict
from longpole.analysis.study import PhaseTime, Spread, Step, Study


@pytest.mark.parametrize(
    ("share", "low", "high", "answer"),
    [
        (0.5, None, None, "yes"),
        (0.49, None, None, "partly"),
        (0.25, None, None, "partly"),
        (0.24, None, None, "no"),
        (0.55, 0.45, 0.65, "partly"),
        (0.55, 0.51, 0.65, "yes"),
        (0.2, 0.1, 0.26, "partly"),
        (0.2, 0.1, 0.24, "no"),
        (0.0, None, None, "no"),
    ],
)
def test_verdicts(share: float, low: float | None, high: float | None, answer: str) -> None:
    assert verdict(share, low, high) == answer


def study_of(**phases: float) -> Study:
    total = sum(phases.values())
    times = [PhaseTime(name, ms, ms / total) for name, ms in phases.items()]
    return Study(step=Step(wall_ms=Spread(total, total, total, 5, total)), phases=times)


def answer_to(study: Study, words: str) -> str:
    [found] = [answer.answer for answer in answers_of(study) if words in answer.question]
    return found


def test_waiting_for_data() -> None:
    study = study_of(data=60, forward=20, backward=20)
    assert answer_to(study, "waiting for data") == "yes"
    assert answer_to(study, "forward pass") == "no"
    assert answer_to(study, "Is it the optimizer") == "no"
    assert answer_to(study, "double the speed") == "yes", "without its 60 of 100 ms a step is 2.5 times as fast"


def test_what_was_not_measured_is_not_known() -> None:
    study = study_of(data=60, other=40)
    for words in ("forward pass", "backward pass", "matrix multiplications", "one layer"):
        assert answer_to(study, words) == "not known"
