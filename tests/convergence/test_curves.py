"""Time to target on curves whose crossing is known on paper: with noise, non-monotone, never reached."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.convergence.curves import MOST_POINTS, Points, best, crossing, smooth, window_for, written
from longpole.convergence.says import FALLS, RISES
from longpole.convergence.target import choose, direction_for

SECONDS_A_STEP = 0.5


def points(values: list[float] | np.ndarray, every: int = 1) -> Points:
    steps = np.arange(1, len(values) + 1, dtype=np.int64) * every
    return Points(steps, steps * SECONDS_A_STEP, np.asarray(values, dtype=np.float64))


def test_a_straight_line_crosses_where_it_crosses_whatever_the_window() -> None:
    """10, 9.9, 9.8, ...: value(step) = 10.1 - step / 10 is 5 at step 51; a centred mean of a line is the line."""
    line = points([10.1 - step / 10 for step in range(1, 101)])
    for window in (1, 3, 5, 21):
        found = crossing(line, 5.0000001, FALLS, window)
        assert found is not None
        assert (found.step, found.seconds) == (51, 25.5)


def test_a_rising_metric_is_the_falling_one_in_a_mirror() -> None:
    falling = [10.1 - step / 10 for step in range(1, 101)]
    mirrored = crossing(points([-value for value in falling]), -5.0000001, RISES, 5)
    assert mirrored is not None
    assert mirrored.step == 51
    assert mirrored.value == pytest.approx(-5.0)


@pytest.mark.parametrize("seed", range(20))
def test_noise_moves_the_crossing_by_less_than_the_window(seed: int) -> None:
    """4 exp(-step / 200) is 1 at step 277; noise of 0.3 is raw below 1 far sooner, the smoothed curve is not.

    The curve's slope there is 1/200 a step, the noise of a mean of 51 is 0.3 / sqrt(51) = 0.042: 8.4 steps, one sigma.
    A first crossing is early rather than late; five sigmas are 42 steps.
    """
    steps = np.arange(1, 1021)
    noisy = 4 * np.exp(-steps / 200) + np.random.default_rng(seed).normal(0, 0.3, len(steps))
    found = crossing(points(noisy), 1.0, FALLS, window_for([len(steps)], of_batches=True))
    assert found is not None
    assert abs(found.step - 277) <= 42
    assert found.raw_step is not None
    assert found.raw_step < found.step


def test_one_lucky_value_is_no_crossing() -> None:
    """Neither in the middle, where it is averaged away, nor first, where there is nothing to average it with."""
    values = [5.0] * 60
    values[30] = 0.0
    values[0] = 0.0
    assert crossing(points(values), 1.0, FALLS, 5) is None
    found = crossing(points(values), 1.0, FALLS, 1)
    assert found is not None
    assert found.step == 1


def test_a_curve_that_gets_worse_again_says_so() -> None:
    """Down to 0 at step 11, up to 10 at step 21, down again: below 3 from step 8 to 14 and from 28 on."""
    values = [*range(10, 0, -1), *range(10), *range(10, -1, -1)]
    found = crossing(points([float(value) for value in values]), 3.0, FALLS, 1)
    assert found is not None
    assert found.step == 8
    assert found.left_again == sum(value > 3 for value in values[7:]) == 13


def test_never_reached_is_none_and_the_best_is_told() -> None:
    values = [3.0, 2.0, 1.5, 1.25, 1.5, 2.0]
    assert crossing(points(values), 1.0, FALLS, 1) is None
    assert best(points(values), FALLS, 1) == (1.25, 4)
    assert best(points(values), RISES, 1) == (3.0, 1)


def test_reached_at_the_last_value() -> None:
    found = crossing(points([3.0, 2.0, 1.0]), 1.0, FALLS, 1)
    assert found is not None
    assert found.step == 3


def test_values_that_are_not_finite_never_reach_anything() -> None:
    nan = math.nan
    assert crossing(points([nan, nan, nan]), 1e9, FALLS, 1) is None
    assert best(points([nan, math.inf, nan]), FALLS, 1) is None
    found = crossing(points([5.0, nan, 4.0, math.inf, 1.0]), 1.0, FALLS, 1)
    assert found is not None
    assert found.step == 5


def test_a_metric_that_is_known_now_and_then_says_how_finely() -> None:
    found = crossing(points([0.5, 0.7, 0.9, 0.95], every=45), 0.9, RISES, 1)
    assert found is not None
    assert (found.step, found.resolution) == (135, 45)


def test_the_window_is_odd_and_a_twentieth_of_the_shortest_run() -> None:
    assert window_for([1000, 420], of_batches=True) == 21
    assert window_for([100_000], of_batches=True) == 101
    assert window_for([40], of_batches=True) == 5
    assert window_for([40], of_batches=False) == 1
    assert window_for([4], of_batches=True) == 1
    assert window_for([], of_batches=True) == 1


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=80), st.sampled_from([1, 3, 5, 9]))
def test_smoothing_stays_within_what_it_smooths_and_keeps_the_ends(values: list[float], window: int) -> None:
    array = np.array(values)
    smoothed = smooth(array, window)
    assert smoothed.min() >= array.min() - 1e-9
    assert smoothed.max() <= array.max() + 1e-9
    assert smoothed[0] == array[0]
    assert smoothed[-1] == array[-1]


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=80), st.floats(0.1, 100), st.sampled_from([1, 3, 5]))
def test_an_easier_target_is_never_reached_later(values: list[float], target: float, window: int) -> None:
    hard, easy = (crossing(points(values), goal, FALLS, window) for goal in (target, target * 1.1))
    if hard is not None:
        assert easy is not None
        assert easy.step <= hard.step


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    curve = written(points(np.arange(100_000.0)), 1)
    assert len(curve.steps) <= MOST_POINTS
    assert (curve.steps[0], curve.steps[-1]) == (1, 100_000)
    assert len(curve.steps) == len(curve.seconds) == len(curve.values) == len(curve.smoothed)


def falling_to(end: float, steps: int = 100) -> Points:
    return points([end + (10 - end) * (1 - step / (steps - 1)) for step in range(steps)])


def test_the_chosen_target_is_reached_by_all_and_is_near_the_worst_best() -> None:
    """Bests 1, 2, 3 from 10: the worst is 3, and a twentieth of the way back to 10 is 3.35."""
    runs = [falling_to(end) for end in (1.0, 2.0, 3.0)]
    target = choose([runs], FALLS, 1)
    assert target is not None
    assert target.chosen
    assert target.value == pytest.approx(3.35)
    assert all(crossing(run, target.value, FALLS, 1) for run in runs)


def test_a_side_that_learns_nothing_does_not_spoil_the_target() -> None:
    """B ends at 9.9: a target for both would be at 9.9, which says nothing about A, which falls to 1."""
    target = choose([[falling_to(1.0)], [falling_to(9.9)]], FALLS, 1)
    assert target is not None
    assert target.value == pytest.approx(1.45)
    assert "first side" in target.sentence
    both = choose([[falling_to(1.0)], [falling_to(2.0)]], FALLS, 1)
    assert both is not None
    assert both.value == pytest.approx(2.4)


def test_no_target_where_nothing_gets_better() -> None:
    assert choose([[points([1.0, 2.0, 3.0])]], FALLS, 1) is None
    assert choose([[points([math.nan, math.nan])]], FALLS, 1) is None


def test_a_rising_metric_gets_a_target_below_the_worst_best() -> None:
    """0.2 to 0.9 and to 0.8: the worst best is 0.8, a twentieth of the way back is 0.77."""
    runs = [points([0.2, 0.5, 0.9]), points([0.2, 0.5, 0.8])]
    target = choose([runs], RISES, 1)
    assert target is not None
    assert target.value == pytest.approx(0.77)


def test_the_direction_of_an_unknown_name_is_what_it_did() -> None:
    assert direction_for("loss", [points([1.0, 5.0])])[0] == FALLS
    assert direction_for("gap", [points([1.0, 5.0])])[0] == RISES
    assert direction_for("gap", [points([5.0, 1.0])])[0] == FALLS
