"""Intervals from few runs: exact where the sum can be written out, and at their stated coverage on simulated runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.survey.spread import LEAST_POOLED, PRIOR_WEIGHT, Usual, pooled, ratio, share, student


def test_student_s_quantiles() -> None:
    assert student(1) == pytest.approx(12.706, abs=5e-4)
    assert student(4) == pytest.approx(2.776, abs=5e-4)
    assert student(1e9) == pytest.approx(1.95996, abs=1e-5)
    assert math.isinf(student(0.5))
    assert all(student(n / 4) >= student(n / 4 + 0.25) for n in range(4, 400))


def test_an_interval_on_paper() -> None:
    """Runs 0.4 and 0.6: squares 0.02 on 1 degree of freedom, usual variance 0.01 on 4: (0.04 + 0.02) / 5 = 0.012."""
    found = share([0.4, 0.6], Usual(0.01, 4))
    half = 2.570582 * math.sqrt(0.012 * 2 / 2)
    assert found.value == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5 - half)
    assert found.high == pytest.approx(0.5 + half)


def test_one_run_has_the_usual_interval_and_shares_stay_shares() -> None:
    found = share([0.99], Usual(0.01**2, 4))
    assert found.low == pytest.approx(0.99 - 2.776445 * 0.01 * math.sqrt(2))
    assert found.high == 1.0


def test_the_usual_variance_is_of_runs_round_their_own_mean() -> None:
    groups = [[1.0, 3.0], [10.0, 12.0], [5.0], [100.0, 102.0], [0.0, 2.0], [7.0, 9.0]]
    assert pooled(groups, Usual(9.0, PRIOR_WEIGHT)) == Usual(
        2.0, PRIOR_WEIGHT
    )  # five pairs, squares 2 each, five degrees
    assert pooled(groups[:2], Usual(9.0, PRIOR_WEIGHT)) == Usual(9.0, PRIOR_WEIGHT)
    assert sum(len(group) - 1 for group in groups) == LEAST_POOLED


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_an_interval_holds_its_own_value(values: list[float]) -> None:
    found = ratio(values)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    assert min(values) * (1 - 1e-9) <= found.value <= max(values) * (1 + 1e-9)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_another_survey_falls_into_the_interval_as_often_as_stated(count: int) -> None:
    """22 networks, runs that differ by 4 %: of the next survey's means 95 in 100 lie inside."""
    random = np.random.default_rng(5)
    inside = total = 0
    for _ in range(60):
        truth = random.uniform(0.5, 3, 22)
        first, second = (np.exp(np.log(truth)[:, None] + random.normal(0, 0.04, (22, count))) for _ in range(2))
        usual = pooled(np.log(first).tolist(), Usual(0.04**2, PRIOR_WEIGHT))
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            found = ratio(one, usual)
            assert found.low is not None
            assert found.high is not None
            inside += found.low <= ratio(other).value <= found.high
            total += 1
    # The usual variance counts for four degrees of freedom at most, so that one run has a little too wide an interval.
    assert 0.93 <= inside / total <= (0.997 if count == 1 else 0.99)
