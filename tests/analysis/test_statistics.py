"""Intervals cover what they say, and hiccups are rare outliers upwards or none."""

from __future__ import annotations

import numpy as np
import pytest

from longpole.analysis.statistics import hiccups, mean_interval, median_interval


@pytest.mark.parametrize(("interval", "truth"), [(median_interval, np.log(2)), (mean_interval, 1.0)])
def test_intervals_cover_the_truth_nearly_as_often_as_they_say(interval: object, truth: float) -> None:
    """300 draws of 40 from the exponential distribution: median ln 2, mean 1; a skewed one, so somewhat below 95 %."""
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        low, high = interval(random.exponential(1.0, 40))  # type: ignore[operator]
        covered += low <= truth <= high
    assert 0.86 <= covered / 300 <= 0.995


def test_fewer_than_three_values_have_no_interval() -> None:
    assert median_interval(np.array([1.0, 2.0])) is None
    assert mean_interval(np.array([])) is None


def test_the_same_values_give_the_same_interval() -> None:
    values = np.arange(20.0)
    assert median_interval(values) == median_interval(values)


def test_one_hiccup_in_twenty_is_set_aside() -> None:
    values = np.array([10.0] * 19 + [30.0])
    assert hiccups(values).tolist() == [False] * 19 + [True]


def test_a_stall_on_every_fourth_step_is_no_accident() -> None:
    assert not hiccups(np.array([10.0, 10, 10, 30] * 5)).any()


def test_fast_steps_are_no_hiccups_and_few_steps_have_none() -> None:
    assert not hiccups(np.array([10.0] * 19 + [1.0])).any()
    assert not hiccups(np.array([10.0, 10, 10, 90])).any()
    assert not hiccups(np.array([])).any()


def test_a_little_more_is_no_hiccup() -> None:
    assert not hiccups(np.array([10.0] * 19 + [12.9])).any()
    assert hiccups(np.array([10.0] * 19 + [13.1])).sum() == 1
