"""Fits of timings whose truth is known: exact ones to the digit, noisy ones at their stated coverage."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longpole.analysis.student import t_quantile
from longpole.sweep.fits import NEAR, fit_batches, fit_threads, predict
from longpole.sweep.lines import COVERAGE, Figure, fit_line, ratio, weights_of

if TYPE_CHECKING:
    from collections.abc import Callable

TRIALS = 500
# The number of 500 intervals that hold the truth has mean 475 and deviation sqrt(500 x 0.95 x 0.05) = 4.87.
DEVIATION = sqrt(TRIALS * COVERAGE * (1 - COVERAGE))
FEWEST, MOST = TRIALS * COVERAGE - 3 * DEVIATION, TRIALS * COVERAGE + 3 * DEVIATION


def holds(figure: Figure | None, truth: float) -> bool:
    assert figure is not None
    low = -np.inf if figure.low is None else figure.low
    high = np.inf if figure.high is None else figure.high
    return low <= truth <= high


def share_that_holds(trial: Callable[[np.random.Generator], bool]) -> int:
    random = np.random.default_rng(2026)
    return sum(trial(random) for _ in range(TRIALS))


# -- Student's t, against the printed tables --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("degrees", "printed"), [(1, 12.706), (2, 4.303), (3, 3.182), (6, 2.447), (10, 2.228), (30, 2.042), (1000, 1.962)]
)
def test_quantiles_are_those_of_the_printed_tables(degrees: int, printed: float) -> None:
    assert t_quantile(degrees) == pytest.approx(printed, abs=6e-4)


def test_no_degree_of_freedom_is_an_error() -> None:
    with pytest.raises(ValueError, match="degree of freedom"):
        t_quantile(0)


# -- exact timings ----------------------------------------------------------------------------------------------


def test_a_line_without_noise_is_found() -> None:
    """10 + 2 n: 26, 42, 74. A sample costs within 5 % of 2 ms once 10 / n <= 0.1, from n = 100 on."""
    fit = fit_batches([8, 16, 32], [26.0, 42.0, 74.0])
    assert fit is not None
    assert fit.fixed_ms.value == pytest.approx(10)
    assert fit.per_sample_ms.value == pytest.approx(2)
    assert fit.enough is not None
    assert fit.enough.value == pytest.approx(10 / (NEAR * 2)) == pytest.approx(100)
    assert fit.off_line == pytest.approx(0, abs=1e-12)
    assert predict(fit, 64).value == pytest.approx(138)


def test_amdahl_without_noise_is_found() -> None:
    """20 + 80 / p: 100, 60, 40. A fifth is serial; 4 threads gave 2.5 times; endless ones give 40 / 20 = 2 more."""
    fit = fit_threads([1, 2, 4], [100.0, 60.0, 40.0])
    assert fit is not None
    assert fit.serial_share is not None
    assert fit.gained is not None
    assert fit.limit is not None
    assert (fit.serial_ms.value, fit.parallel_ms.value) == (pytest.approx(20), pytest.approx(80))
    assert fit.serial_share.value == pytest.approx(0.2)
    assert fit.gained.value == pytest.approx(2.5)
    assert fit.limit.value == pytest.approx(2)


def test_one_batch_or_one_number_of_threads_says_nothing() -> None:
    assert fit_batches([8, 8], [10.0, 11.0]) is None
    assert fit_threads([2, 2], [10.0, 11.0]) is None
    assert fit_batches([], []) is None
    assert fit_threads([], []) is None
    assert fit_threads([0, 1], [1.0, 2.0]) is None


def test_two_runs_give_figures_and_no_intervals() -> None:
    fit = fit_batches([8, 16], [26.0, 42.0])
    assert fit is not None
    assert fit.fixed_ms.low is fit.fixed_ms.high is None
    assert predict(fit, 32).low is None


def test_time_that_does_not_grow_never_stops_paying() -> None:
    fit = fit_batches([1, 2, 4, 8], [5.0, 5.0, 4.9, 4.9])
    assert fit is not None
    assert fit.enough is None


def test_time_that_shrinks_to_nothing_has_no_limit() -> None:
    fit = fit_threads([1, 2, 4], [100.0, 49.0, 24.0])
    assert fit is not None
    assert fit.serial_ms.value < 0
    assert fit.limit is None


def test_a_curve_is_noticed() -> None:
    """4, 16 and 64 for 2, 4 and 8 is a square: no line passes within a tenth of each."""
    bent = fit_batches([2, 4, 8], [4.0, 16.0, 64.0])
    assert bent is not None
    assert bent.off_line > 0.1


@settings(deadline=None)
@given(
    st.lists(st.floats(0.1, 100), min_size=3, max_size=3),
    st.lists(st.floats(0.1, 100), min_size=3, max_size=3),
    st.floats(0.01, 0.99),
)
def test_the_fits_of_the_parts_sum_to_the_fit_of_the_whole(
    fixed: list[float], noise: list[float], share: float
) -> None:
    batches = [1, 1, 4, 4, 16, 16]
    whole = np.array([fixed[n % 3] + noise[k % 3] * n for k, n in enumerate(batches)])
    part = whole * np.array([share, 1 - share, 0.5, share, 0.25, 1 - share])
    weights = weights_of(batches, whole.tolist())
    fits = [fit_batches(batches, values.tolist(), weights) for values in (whole, part, whole - part)]
    assert all(fits)
    for term in ("fixed_ms", "per_sample_ms"):
        all_of_it, one, other = (getattr(fit, term).value for fit in fits)
        assert one + other == pytest.approx(all_of_it, rel=1e-6, abs=1e-6)


def test_a_ratio_whose_denominator_may_be_nothing_has_no_ends() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0], [10.0, 12.0, 9.0, 11.5]
    line = fit_line(x, y, np.ones(4))
    assert line is not None
    found = ratio(line, (1, 0), (0, 1))
    assert found is not None
    assert found.low is found.high is None


# -- simulated timings: the truth is in the interval as often as is said ----------------------------------------


BATCHES = np.repeat([4, 8, 16, 32], 3)
THREADS = np.repeat([1, 2, 4, 8], 3)


@pytest.mark.parametrize(
    ("fixed", "per_sample", "noise"), [(5.0, 0.8, 0.03), (0.5, 2.0, 0.01), (40.0, 0.25, 0.05), (0.0, 1.0, 0.03)]
)
def test_fixed_and_per_sample_cost_are_held_at_the_stated_coverage(
    fixed: float, per_sample: float, noise: float
) -> None:
    def fits(random: np.random.Generator) -> tuple[bool, bool, bool]:
        truth = fixed + per_sample * BATCHES
        fit = fit_batches(BATCHES.tolist(), (truth * (1 + noise * random.standard_normal(len(truth)))).tolist())
        assert fit is not None
        enough = max(fixed / (NEAR * per_sample), 0.0)
        return holds(fit.fixed_ms, fixed), holds(fit.per_sample_ms, per_sample), holds(fit.enough, enough)

    random = np.random.default_rng(2026)
    for held in np.sum([fits(random) for _ in range(TRIALS)], axis=0):
        assert FEWEST <= held <= MOST


@pytest.mark.parametrize(("serial", "parallel", "noise"), [(20.0, 80.0, 0.03), (2.0, 98.0, 0.02), (60.0, 5.0, 0.03)])
def test_the_serial_share_is_held_at_the_stated_coverage(serial: float, parallel: float, noise: float) -> None:
    share = serial / (serial + parallel)
    gained = (serial + parallel) / (serial + parallel / 8)

    def fits(random: np.random.Generator) -> tuple[bool, bool, bool]:
        truth = serial + parallel / THREADS
        fit = fit_threads(THREADS.tolist(), (truth * (1 + noise * random.standard_normal(len(truth)))).tolist())
        assert fit is not None
        return holds(fit.serial_ms, serial), holds(fit.serial_share, share), holds(fit.gained, gained)

    random = np.random.default_rng(2027)
    for held in np.sum([fits(random) for _ in range(TRIALS)], axis=0):
        assert FEWEST <= held <= MOST


def test_two_thread_counts_are_enough_for_the_stated_coverage() -> None:
    """As on a machine of two cores: 1 and 2 threads, three runs each."""
    threads = np.repeat([1, 2], 3)

    def trial(random: np.random.Generator) -> bool:
        truth = 30 + 70 / threads
        fit = fit_threads(threads.tolist(), (truth * (1 + 0.02 * random.standard_normal(6))).tolist())
        assert fit is not None
        return holds(fit.serial_share, 0.3)

    assert FEWEST <= share_that_holds(trial) <= MOST


def test_a_run_that_was_left_out_falls_into_its_interval_as_often_as_is_said() -> None:
    def trial(random: np.random.Generator) -> bool:
        batches = np.repeat([4, 8, 32], 3)
        truth = 5 + 0.8 * batches
        fit = fit_batches(batches.tolist(), (truth * (1 + 0.03 * random.standard_normal(9))).tolist())
        assert fit is not None
        left_out = (5 + 0.8 * 16) * (1 + 0.03 * random.standard_normal(2)).mean()
        return holds(predict(fit, 16, runs=2), float(left_out))

    assert FEWEST <= share_that_holds(trial) <= MOST


def test_intervals_that_are_too_narrow_would_be_noticed() -> None:
    """The check itself: half the width holds the truth in far fewer cases than is said."""

    def trial(random: np.random.Generator) -> bool:
        truth = 5 + 0.8 * BATCHES
        fit = fit_batches(BATCHES.tolist(), (truth * (1 + 0.03 * random.standard_normal(len(truth)))).tolist())
        assert fit is not None
        assert fit.fixed_ms.low is not None
        return abs(fit.fixed_ms.value - 5) <= (fit.fixed_ms.value - fit.fixed_ms.low) / 2

    assert share_that_holds(trial) < FEWEST
