"""Spread over seeds, Welch's test and the comparison of two sides: sums written out, and known distributions."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.analysis.converge_results import Crossing, Layer, SeedRun, Side
from longpole.analysis.student import t_quantile, t_tail
from longpole.convergence.compare import compare
from longpole.convergence.frozen import frozen_study, numbers_to_try
from longpole.convergence.intervals import trimmed_interval, welch
from longpole.convergence.protocol import over_seeds


@pytest.mark.parametrize(
    ("degrees", "t"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042), (1000, 1.962)]
)
def test_the_table_of_t(degrees: int, t: float) -> None:
    """Two-sided 95 % points as in any printed table."""
    assert t_quantile(degrees) == pytest.approx(t, abs=5e-4)
    assert t_tail(t_quantile(degrees), degrees) == pytest.approx(0.05, abs=1e-9)


def test_one_degree_of_freedom_is_cauchys() -> None:
    """P(|T| > 1) is a half there, since tan(pi / 4) = 1."""
    assert t_tail(1.0, 1) == pytest.approx(0.5, abs=1e-12)


def test_welch_on_paper() -> None:
    """1, 2, 3 against 4, 6, 8: means 2 and 6, variances 1 and 4, error sqrt(1/3 + 4/3) = 1.291; 4 / 1.291 = 3.098.

    Degrees: (5/3)^2 / ((1/3)^2 / 2 + (4/3)^2 / 2) = 2.941.
    """
    shift = welch([1, 2, 3], [4, 6, 8])
    assert shift.difference == 4
    assert shift.p == pytest.approx(t_tail(3.0984, 2.9412), rel=1e-3)
    assert shift.low == pytest.approx(4 - t_quantile(2.9412) * 1.29099, rel=1e-3)


def test_welch_without_spread_or_with_one_value_has_no_interval() -> None:
    assert welch([1, 1], [2, 2]).p is None
    assert welch([1], [2, 3]).low is None


def test_welchs_interval_holds_the_truth_nineteen_times_of_twenty() -> None:
    """500 draws of 5 against 5, of unequal spread; three binomial sigmas are 2.9 %."""
    drawn = np.random.default_rng(1)
    shifts = [welch(list(drawn.normal(0, 1, 5)), list(drawn.normal(1, 3, 5))) for _ in range(500)]
    held = sum(s.low is not None and s.high is not None and s.low < 1 < s.high for s in shifts)
    assert 0.92 < held / 500 < 0.98


def test_the_trimmed_interval_on_paper() -> None:
    """1, 2, 3, 4, 10 without the ends is 2, 3, 4; pulled in 2, 2, 3, 4, 4, variance 1; error 1/sqrt(5) / 0.6, t(2)."""
    found = trimmed_interval([10, 2, 3, 4, 1])
    assert found is not None
    half = 4.30265 / math.sqrt(5) / 0.6
    assert found == pytest.approx((3 - half, 3 + half), rel=1e-5)
    assert trimmed_interval([1, 2, 3]) is None


def test_the_fastest_and_the_slowest_are_dropped() -> None:
    found = over_seeds([100.0, 1.0, 3.0, 4.0, 2.0])
    assert found.mean == 3.0
    assert (found.least, found.most, found.runs, found.dropped) == (1.0, 100.0, 5, 2)


def test_what_is_done_with_few_runs() -> None:
    assert over_seeds([4.0]).mean == 4.0
    assert over_seeds([4.0, 8.0]).mean == 6.0
    three = over_seeds([4.0, 9.0, 5.0])
    assert (three.mean, three.low, three.dropped) == (5.0, None, 2)
    four = over_seeds([4.0, 9.0, 5.0, 7.0])
    assert four.mean == 6.0
    assert four.low is not None
    assert over_seeds([]).mean is None


def test_one_run_in_five_may_fail_and_is_then_the_slowest() -> None:
    found = over_seeds([4.0, None, 5.0, 1.0, 6.0])
    assert found.mean == 5.0
    assert "never reached" in found.sentence
    assert over_seeds([4.0, None, 5.0, 1.0]).mean is None
    assert over_seeds([4.0, None, None, 1.0, 6.0, 7.0]).mean is None


@given(st.lists(st.floats(0.1, 1e6), min_size=3, max_size=12))
def test_the_mean_lies_within_the_runs_and_no_order_changes_it(values: list[float]) -> None:
    found = over_seeds(values)
    shuffled = values[:]
    random.Random(0).shuffle(shuffled)
    assert found.mean is not None
    assert min(values) <= found.mean * (1 + 1e-9)
    assert found.mean <= max(values) * (1 + 1e-9)
    assert over_seeds(shuffled).mean == pytest.approx(found.mean)


def side(label: str, reached: list[tuple[int, float] | None], ran: float = 1000.0) -> Side:
    """A side whose runs reach the target at these steps and seconds; None never does, in `ran` seconds."""
    runs = [
        SeedRun(seed, 1000, ran, reached=None if at is None else Crossing(at[0], at[1], 0.5), step_s=0.1)
        for seed, at in enumerate(reached)
    ]
    return Side(label, "train.py", runs=runs)


@given(
    st.lists(st.tuples(st.integers(1, 10_000), st.floats(0.01, 1e5)), min_size=2, max_size=8),
    st.lists(st.tuples(st.integers(1, 10_000), st.floats(0.01, 1e5)), min_size=2, max_size=8),
)
def test_the_parts_sum_to_the_whole(before: list[tuple[int, float]], after: list[tuple[int, float]]) -> None:
    found = compare(side("A", [*before]), side("B", [*after]))
    assert found.seconds is not None
    assert found.steps is not None
    assert found.step_time is not None
    assert found.steps.log + found.step_time.log == pytest.approx(found.seconds.log, abs=1e-9)


def test_a_clear_difference_and_where_it_comes_from() -> None:
    """Half the steps at 1.5 times the step time: 0.75 times the seconds."""
    before = [(100 + k, (100 + k) * 0.1) for k in range(5)]
    after = [(50 + k, (50 + k) * 0.15) for k in range(5)]
    found = compare(side("A", [*before]), side("B", [*after]))
    assert found.verdict == "sooner"
    assert found.steps is not None
    assert found.step_time is not None
    assert found.step_time.ratio == pytest.approx(1.5)
    assert found.steps.ratio == pytest.approx(52 / 102, rel=0.01)
    assert compare(side("A", [*after]), side("B", [*before])).verdict == "later"


def test_no_verdict_where_the_spread_is_larger_than_the_difference() -> None:
    before = [(100, 10.0), (200, 20.0), (300, 30.0)]
    after = [(110, 11.0), (220, 22.0), (330, 33.0)]
    found = compare(side("A", [*before]), side("B", [*after]))
    assert found.verdict == "not known"
    assert found.sentence.startswith("No verdict")


def test_of_equal_sides_at_most_one_in_twenty_gets_a_verdict() -> None:
    """400 pairs of the same distribution: 5 % of verdicts may be false, 20; two sigmas above are 29."""
    drawn = np.random.default_rng(3)
    wrong = 0
    for _ in range(400):
        seconds = np.exp(drawn.normal(3, 0.3, 10))
        pairs = [(100, float(value)) for value in seconds]
        wrong += compare(side("A", [*pairs[:5]]), side("B", [*pairs[5:]])).verdict in ("sooner", "later")
    assert wrong <= 29


def test_the_same_time_within_a_twentieth_is_told_as_the_same() -> None:
    pairs = [(100, 10.0 + k / 1000) for k in range(5)]
    assert compare(side("A", [*pairs]), side("B", [*reversed(pairs)])).verdict == "not different"


def test_one_seed_gives_no_verdict() -> None:
    found = compare(side("A", [(100, 10.0)]), side("B", [(50, 5.0)]))
    assert found.verdict == "not known"
    assert "--seeds" in found.sentence


def test_a_side_that_never_arrives_is_later_only_if_it_ran_long_enough() -> None:
    arrives = [(100 + k, 10.0 + k / 10) for k in range(5)]
    assert compare(side("A", [*arrives]), side("B", [None] * 5, ran=50.0)).verdict == "later"
    assert compare(side("A", [None] * 5, ran=50.0), side("B", [*arrives])).verdict == "sooner"
    assert compare(side("A", [*arrives]), side("B", [None] * 5, ran=5.0)).verdict == "not known"
    neither = compare(side("A", [None] * 5, ran=50.0), side("B", [None] * 5, ran=500.0))
    assert neither.verdict == "not known"
    assert "--max-steps" in neither.sentence


def test_fewer_steps_are_counted_seed_by_seed() -> None:
    """90 < 100 yes, 200 < 200 no, 5 against never yes, never against 5 no."""
    before = side("A", [(100, 1.0), (200, 1.0), None, (5, 1.0)])
    after = side("B", [(90, 1.0), (200, 1.0), (5, 1.0), None])
    found = compare(before, after)
    assert (found.fewer_steps, found.pairs) == (2, 4)


def frozen_side(number: int, seconds: list[float | None], step_s: float) -> Side:
    runs = [
        SeedRun(seed, 100, 100.0, step_s=step_s, best=0.5, reached=None if s is None else Crossing(10, s, 0.5))
        for seed, s in enumerate(seconds)
    ]
    layers = [Layer(f"layer{k}", "Linear", 10 * (k + 1)) for k in range(4)]
    return Side(
        f"{number} frozen", "train.py", changes={"freeze": number} if number else {}, runs=runs, layers=layers,
        seconds=over_seeds(seconds), steps=over_seeds([None if s is None else 10.0 for s in seconds]),
    )  # fmt: skip


def test_the_best_number_of_frozen_layers() -> None:
    """Two frozen layers save a third of the step and arrive; three save more and never arrive."""
    found = frozen_study(
        [
            frozen_side(0, [9.0, 9.1, 9.2], 0.9),
            frozen_side(2, [6.0, 6.1, 6.2], 0.6),
            frozen_side(3, [None] * 3, 0.3),
        ]
    )
    assert found.best == 2
    assert [row.frozen_parameters for row in found.rows] == [0, 10 + 20, 10 + 20 + 30]
    assert found.rows[1].last_layer == "layer1"
    assert found.rows[1].saving_share == pytest.approx(1 / 3)
    assert found.rows[2].reached == 0
    assert found.rows[2].seconds is None
    assert found.rows[2].saving_share == pytest.approx(2 / 3)
    assert "sooner" in found.sentence


def test_freezing_that_does_not_pay_is_told() -> None:
    found = frozen_study([frozen_side(0, [5.0, 5.1, 5.2], 0.5), frozen_side(1, [7.0, 7.1, 7.2], 0.4)])
    assert found.best == 0
    assert "does not pay" in found.sentence
    nothing = frozen_study([frozen_side(0, [None] * 3, 0.5)])
    assert nothing.best is None


def test_numbers_of_layers_to_try() -> None:
    assert numbers_to_try(4) == [1, 2, 3]
    assert numbers_to_try(1) == []
    many = numbers_to_try(50)
    assert (many[0], many[-1], len(many)) == (1, 49, 6)
