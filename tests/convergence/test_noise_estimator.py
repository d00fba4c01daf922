"""The noise scale on paper: sums written out, gradients of known distributions, running means, the best batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.convergence.noise_estimator import (
    Moments,
    Parts,
    fastest_batch,
    mean_of,
    moments,
    noise_scale,
    seconds_beside_best,
    signal_to_noise,
    smoothed,
)


def test_two_examples_written_out() -> None:
    """g_1 = (3, 0), g_2 = (1, 2): the whole is (2, 1). |G|² = g_1 · g_2 = 3, and tr(Σ) = |g_1 - g_2|² / 2 = 4."""
    found = moments(Parts((1, 1), (9.0, 5.0), 5.0))
    assert found.squared_norm == pytest.approx(3.0)
    assert found.variance == pytest.approx(4.0)


def test_two_halves_of_two_examples_each() -> None:
    """The same gradients as means of two examples each: |G|² stays 3, one example's variance is twice 4."""
    found = moments(Parts((2, 2), (9.0, 5.0), 5.0))
    assert (found.squared_norm, found.variance) == (pytest.approx(3.0), pytest.approx(8.0))


def test_one_part_says_nothing() -> None:
    with pytest.raises(ValueError, match="fewer than two"):
        moments(Parts((4,), (1.0,), 1.0))


@pytest.mark.parametrize("sizes", [(16, 16), (4,) * 8, (1,) * 32, (5, 6, 5, 6), (1, 31)])
def test_unbiased_on_gaussian_gradients_of_any_division(sizes: tuple[int, ...]) -> None:
    """g_i ~ N(G, Σ) with |G|² = 2.5, tr(Σ) = 60: the mean of 2000 estimates is within 4 standard errors of both."""
    random = np.random.default_rng(7)
    true = np.array([1.5, -0.5, 0.0])
    deviations = np.array([2.0, 4.0, math.sqrt(40.0)])
    found: list[Moments] = []
    for _ in range(2000):
        gradients = true + deviations * random.standard_normal((sum(sizes), 3))
        ends = np.cumsum(sizes)
        means = [gradients[end - size : end].mean(0) for size, end in zip(sizes, ends, strict=True)]
        whole = gradients.mean(0)
        found.append(moments(Parts(sizes, tuple(float(m @ m) for m in means), float(whole @ whole))))
    for values, expected in (
        ([one.squared_norm for one in found], 2.5),
        ([one.variance for one in found], 60.0),
    ):
        error = float(np.std(values)) / math.sqrt(len(values))
        assert abs(float(np.mean(values)) - expected) < 4 * error


def test_running_means_forget_nine_tenths_of_what_they_had_and_start_without_bias() -> None:
    values = [Moments(1.0, 10.0), Moments(2.0, 20.0), Moments(4.0, 0.0)]
    found = smoothed(values, 0.9)
    assert (found[0].squared_norm, found[0].variance) == (pytest.approx(1.0), pytest.approx(10.0))
    assert found[1].squared_norm == pytest.approx((0.9 * 1 + 2) / 1.9)
    assert found[2].squared_norm == pytest.approx((0.81 * 1 + 0.9 * 2 + 4) / (0.81 + 0.9 + 1))
    assert found[2].variance == pytest.approx((0.81 * 10 + 0.9 * 20) / 2.71)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(1, 30))
def test_what_never_changes_is_its_own_running_mean(squared: float, variance: float, steps: int) -> None:
    found = smoothed([Moments(squared, variance)] * steps)[-1]
    assert found.squared_norm == pytest.approx(squared, rel=1e-9, abs=1e-9)
    assert found.variance == pytest.approx(variance, rel=1e-9, abs=1e-9)


def test_the_ratio_is_of_means_and_no_mean_of_ratios() -> None:
    """Ratios 8/1 and 4/3 have the mean 4.67; the noise scale is (8 + 4)/(1 + 3) = 3."""
    assert noise_scale(mean_of([Moments(1.0, 8.0), Moments(3.0, 4.0)])) == pytest.approx(3.0)


def test_no_scale_where_the_gradient_drowns() -> None:
    assert noise_scale(Moments(-0.1, 4.0)) is None
    assert signal_to_noise(Moments(-0.1, 4.0)) == pytest.approx(-0.025)
    assert signal_to_noise(Moments(1.0, 0.0)) is None


@given(st.floats(0.1, 1e5), st.floats(1e-4, 10), st.floats(1e-6, 1), st.floats(0.05, 20))
def test_no_other_batch_is_faster_than_the_fastest(scale: float, fixed: float, each: float, other: float) -> None:
    best = fastest_batch(scale, fixed, each)
    assert best is not None
    assert best == pytest.approx(math.sqrt(scale * fixed / each))
    beside = seconds_beside_best(best * other, scale, fixed, each)
    assert beside is not None
    assert beside >= 1 - 1e-9


def test_seconds_of_a_batch_beside_the_best_written_out() -> None:
    """Scale 100, 1 s + 0.01 s a step: best at 100, (1 + 1)(1 + 1) = 4; at 400 it is 1.25 * 5 = 6.25."""
    assert fastest_batch(100, 1, 0.01) == pytest.approx(100)
    assert seconds_beside_best(400, 100, 1, 0.01) == pytest.approx(6.25 / 4)
    assert fastest_batch(100, 0, 0.01) is None
    assert seconds_beside_best(0, 100, 1, 0.01) is None
