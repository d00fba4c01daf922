"""Findings state facts with the most that acting on them could save."""

from __future__ import annotations

from longpole.analysis.findings import findings_of
from longpole.analysis.study import OpClassTime, PhaseTime, Site, Spread, Step, Study


def made(**parts: object) -> Study:
    return Study(step=Step(wall_ms=Spread(median=100.0, mean=100.0, n=20)), **parts)  # type: ignore[arg-type]


def test_a_phase_outside_the_network_is_worth_what_it_takes() -> None:
    data = PhaseTime("data", 30.0, 0.3, sites=[Site("train.py:7 in get_batch", 29.0)])
    small = PhaseTime("checkpoint", 4.9, 0.049)
    (finding,) = findings_of(made(phases=[data, small, PhaseTime("forward", 65.1, 0.651)]))
    assert (finding.slug, finding.saving_ms) == ("data", 30.0)
    assert "train.py:7 in get_batch" in finding.sentence


def test_the_distance_from_the_ceiling_is_worth_time_less_bound() -> None:
    matmul = OpClassTime("matmul", 60.0, 0.6, bound_ms=45.0)
    at_limit = OpClassTime("normalization", 10.0, 0.1, bound_ms=9.0)
    unknown = OpClassTime("random", 30.0, 0.3)
    (finding,) = findings_of(made(op_classes=[matmul, at_limit, unknown]))
    assert (finding.slug, finding.saving_ms) == ("distance-matmul", 15.0)
    assert "75 % of this machine's ceiling" in finding.sentence
    assert "worth 15 % of the step" in finding.sentence


def test_the_largest_saving_comes_first() -> None:
    host = OpClassTime("host", 50.0, 0.5, forward_ms=15.0, backward_ms=10.0)
    found = findings_of(made(op_classes=[host], phases=[PhaseTime("other", 20.0, 0.2)]))
    assert [(finding.slug, finding.saving_ms) for finding in found] == [("host", 25.0), ("other", 20.0)]
