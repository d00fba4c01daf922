"""Comparing two runs: the statistics against known distributions, the verdicts, the sentence, the rules."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.analysis.compare import Comparison, Part, Row, compare, difference, verdict_of
from longpole.analysis.compare_rules import apply_rules, parse_rules
from longpole.analysis.compare_stats import (
    ALPHA,
    Difference,
    adjusted,
    at_most,
    compare_values,
    exact_distribution,
    mann_whitney,
    thinned,
)
from longpole.analysis.study import (
    LayerTime,
    Machine,
    OpTime,
    PhaseTime,
    Rank,
    RankStep,
    Run,
    Share,
    Spread,
    Step,
    StepSample,
    Study,
    Timeline,
)
from longpole.errors import LongpoleError

TRIALS = 1000
# Of TRIALS at a rate of ALPHA, more than this many would come once in 100,000 times (normal approximation).
MOST_FALSE = ALPHA * TRIALS + 4.3 * (ALPHA * (1 - ALPHA) * TRIALS) ** 0.5


def exact_p(a: list[float], b: list[float]) -> float:
    """By listing every way to divide the values into two groups of these sizes."""
    pooled = a + b

    def u(chosen: tuple[int, ...]) -> int:
        ours = [pooled[i] for i in chosen]
        theirs = [pooled[i] for i in range(len(pooled)) if i not in chosen]
        return sum(one > other for one in ours for other in theirs)

    all_u = [u(chosen) for chosen in combinations(range(len(pooled)), len(a))]
    mine = u(tuple(range(len(a))))
    least = min(mine, len(a) * len(b) - mine)
    return min(1.0, 2 * sum(one <= least for one in all_u) / comb(len(pooled), len(a)))


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=9, unique=True), st.integers(1, 8))
def test_the_p_value_is_that_of_all_divisions_listed(values: list[int], cut: int) -> None:
    cut = min(cut, len(values) - 1)
    a, b = [float(v) for v in values[:cut]], [float(v) for v in values[cut:]]
    assert mann_whitney(np.array(a), np.array(b)) == pytest.approx(exact_p(a, b))


@pytest.mark.parametrize(("m", "n"), [(26, 26), (26, 51), (30, 60)])
def test_the_normal_approximation_meets_the_exact_value_where_it_takes_over(m: int, n: int) -> None:
    exact = exact_distribution(m, n)
    for u in range(0, m * n // 2, 20):
        assert at_most(u, m, n) == pytest.approx(exact[u], abs=0.002)


@pytest.mark.parametrize(("before", "after"), [(4, 4), (5, 12), (20, 20), (40, 15)])
@pytest.mark.parametrize("noise", ["normal", "long tail", "two modes"])
def test_equal_distributions_are_rarely_called_different(before: int, after: int, noise: str) -> None:
    random = np.random.default_rng(11)

    def draw(count: int) -> list[float]:
        if noise == "normal":
            return list(100 * np.exp(random.normal(0, 0.03, count)))
        if noise == "long tail":
            return list(100 + random.lognormal(1, 1.5, count))
        return list(random.choice([100.0, 130.0], count) + random.normal(0, 1, count))

    called = 0
    for _ in range(TRIALS):
        found = compare_values(draw(before), draw(after))
        called += verdict_of(found, found.p, 100.0, 100.0) in ("faster", "slower")
    assert called <= MOST_FALSE


def test_a_planted_change_of_5_percent_is_found_and_the_interval_holds_it() -> None:
    random = np.random.default_rng(5)
    found, held = 0, 0
    for _ in range(TRIALS):
        a, b = (100 * np.exp(random.normal(shift, 0.02, 20)) for shift in (0.0, np.log(1.05)))
        one = compare_values(list(a), list(b))
        assert one.low is not None
        assert one.high is not None
        found += verdict_of(one, one.p, 100.0, 100.0) == "slower"
        held += one.low <= 1.05 <= one.high
    assert found >= 0.99 * TRIALS
    assert held >= TRIALS - MOST_FALSE


@given(
    st.lists(st.floats(1, 1000), min_size=4, max_size=11),
    st.lists(st.floats(1, 1000), min_size=4, max_size=11),
    st.floats(0.01, 100),
)
def test_units_do_not_matter_and_swapping_inverts(a: list[float], b: list[float], unit: float) -> None:
    one, swapped = compare_values(a, b), compare_values(b, a)
    scaled = compare_values([v * unit for v in a], [v * unit for v in b])
    assert one.ratio is not None
    assert one.low is not None
    assert one.high is not None
    assert one.low <= one.ratio <= one.high
    assert scaled.low == pytest.approx(one.low)
    assert scaled.ratio == pytest.approx(one.ratio)
    assert swapped.ratio == pytest.approx(1 / one.ratio)
    assert swapped.high == pytest.approx(1 / one.low)


@given(st.lists(st.floats(1, 1000), max_size=3), st.lists(st.floats(1, 1000), max_size=3))
def test_too_few_steps_are_never_enough(a: list[float], b: list[float]) -> None:
    found = compare_values(a, b)
    assert found.low is None
    assert verdict_of(found, found.p, 100.0, 100.0) == "not known"


def test_steps_that_follow_one_another_are_thinned_and_others_are_not() -> None:
    random = np.random.default_rng(2)
    free = random.normal(100, 1, 60)
    alternating = np.tile([100.0, 110.0], 30)
    drift = np.linspace(100, 120, 60)
    assert len(thinned(alternating)) == 60
    assert len(thinned(drift)) == 6
    assert np.all(np.diff(thinned(drift)) > 0)
    assert len(thinned(free)) >= 20


def test_of_many_equal_rows_few_tables_show_one_that_changed() -> None:
    random = np.random.default_rng(8)
    tables = 0
    for _ in range(300):
        rows = [compare_values(*(list(random.normal(100, 2, 10)) for _ in (0, 1))) for _ in range(20)]
        chances = adjusted([row.p for row in rows])
        tables += any(
            verdict_of(row, p, 100.0, 100.0) in ("faster", "slower") for row, p in zip(rows, chances, strict=True)
        )
    assert tables <= ALPHA * 300 + 4.3 * (ALPHA * (1 - ALPHA) * 300) ** 0.5


def test_adjusting_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.5 of four: times 4/1, 4/2, 4/3, 4/4, each no larger than the next.
    assert adjusted([0.5, None, 0.01, 0.03, 0.02]) == [
        0.5,
        None,
        pytest.approx(0.04),
        pytest.approx(0.04),
        pytest.approx(0.04),
    ]


@pytest.mark.parametrize(
    ("found", "p", "verdict"),
    [
        (Difference(1.10, 1.08, 1.12, 0.001), 0.001, "slower"),
        (Difference(0.90, 0.88, 0.92, 0.001), 0.001, "faster"),
        (Difference(1.10, 1.01, 1.19, 0.04), 0.20, "not known"),  # one of many rows
        (Difference(1.005, 1.003, 1.007, 0.001), 0.001, "same"),  # sure, and too small to be a change
        (Difference(1.0, 0.97, 1.03, 0.9), 0.9, "same"),
        (Difference(1.0, 0.80, 1.30, 0.9), 0.9, "not known"),
        (Difference(1.2, None, None, None), None, "not known"),
        (Difference(None), None, "not known"),
    ],
)
def test_verdicts(found: Difference, p: float | None, verdict: str) -> None:
    assert verdict_of(found, p, 100.0, 100.0) == verdict


def test_a_noisy_row_that_cannot_matter_to_the_step_is_the_same() -> None:
    noisy = Difference(1.0, 0.8, 1.3, 0.9)
    assert verdict_of(noisy, 0.9, 1.0, 100.0) == "same"  # 0.3 ms of 100
    assert verdict_of(noisy, 0.9, 5.0, 100.0) == "not known"  # 1.5 ms of 100


def test_intervals_of_means_decide_where_times_of_steps_are_not_there() -> None:
    # 100 (99 to 101) against 110 (108.9 to 111.1): each mean within 1 %, together within 1.4 %.
    found = difference(Part(100.0, (), (99.0, 101.0), 20), Part(110.0, (), (108.9, 111.1), 20))
    assert found.ratio == pytest.approx(1.1)
    assert found.low == pytest.approx(1.1 * np.exp(-np.hypot(0.01, 0.01)), rel=1e-3)
    assert found.p is not None
    assert found.p < 1e-9
    assert difference(Part(100.0, (), (99.0, 101.0), 2), Part(110.0, (), (108.9, 111.1), 20)).low is None
    assert difference(Part(100.0, (), (101.0, 99.0), 9), Part(110.0, (), (-1.0, 111.1), 9)).low is None


def study(step_ms: float, data_ms: float, count: int = 20, noise: float = 0.01, seed: int = 1, **run: object) -> Study:
    random = np.random.default_rng(seed)
    samples = [StepSample(i, float(step_ms * np.exp(random.normal(0, noise)))) for i in range(count)]
    samples.append(StepSample(99, 10 * step_ms, "profiled"))
    data = [float(data_ms * np.exp(random.normal(0, noise))) for _ in range(count)]
    rest = step_ms - data_ms
    return Study(
        run=Run(batch_size=32, framework="torch 2.13.0", **run),  # pyright: ignore[reportArgumentType]
        machine=Machine(name="m", cores=2, threads=2),
        step=Step(wall_ms=Spread(step_ms, step_ms * 0.99, step_ms * 1.01, count), samples=samples),
        phases=[
            PhaseTime("data", data_ms, data_ms / step_ms, samples=data),
            PhaseTime("forward", rest, rest / step_ms, low=rest * 0.995, high=rest * 1.005),
        ],
        layers=[LayerTime("", container=True, total_ms=rest), LayerTime("fc", total_ms=rest)],
        ops=[
            OpTime("aten::mm", "matmul", "forward", "fc", None, 2.0),
            OpTime("aten::mm", "matmul", "forward", "head", None, 3.0),
            OpTime("aten::mm", "matmul", "weight_grad", "fc", None, 4.0),
        ],
    )


def row(found: Comparison, section: str, name: str) -> Row:
    return next(one for one in found.rows if (one.section, one.name) == (section, name))


def test_the_first_sentence_says_how_much_faster_and_where() -> None:
    found = compare(study(611, 120), study(517, 26, seed=2))
    assert found.verdict == "faster"
    assert found.sentence.startswith("B is 1.18 times faster (1.1")
    assert "611 ms to 517 ms a step, 94 ms less; −94 ms in data." in found.sentence
    assert row(found, "phase", "data").verdict == "faster"
    assert row(found, "phase", "forward").verdict == "same"
    assert row(found, "layer", "fc").verdict == "not known"
    assert row(found, "op", "aten::mm").before_ms == 5.0
    assert row(found, "op", "aten::mm (weight_grad)").before_ms == 4.0
    assert not any(one.section == "layer" and one.name == "" for one in found.rows)


def test_the_same_run_twice_takes_as_long_and_two_steps_are_too_few() -> None:
    assert compare(study(100, 10), study(100, 10, seed=2)).sentence.startswith("B takes as long as A")
    few = compare(study(100, 10, count=2), study(150, 10, count=2))
    assert few.verdict == "not known"
    assert "2 and 2 steps are too few" in few.sentence
    assert "not known" in compare(Study(), study(100, 10)).sentence


def test_parts_of_only_one_of_the_two_are_named_as_such() -> None:
    after = study(100, 10)
    after.phases.append(PhaseTime("clip", 3.0, 0.03))
    found = compare(study(100, 10), after)
    assert (row(found, "phase", "clip").verdict, row(found, "phase", "clip").delta_ms) == ("only in B", 3.0)


def test_conditions_that_differ_are_said() -> None:
    other = study(100, 10)
    other.run.batch_size, other.machine.threads, other.run.framework = 64, 1, "torch 2.6.0"
    assert compare(study(100, 10), other).warnings == [
        "Not alike: threads is 2 in A and 1 in B.",
        "Not alike: framework is torch 2.13.0 in A and torch 2.6.0 in B.",
        "Not alike: batch size is 32 in A and 64 in B.",
    ]
    other.run.batch_size = None
    assert not any("batch" in warning for warning in compare(study(100, 10), other).warnings)


def traced(idle: float) -> Study:
    def line(ms: float) -> Timeline:
        shares = [Share(value, value / 100) for value in (100 - ms, ms, 90.0, 20.0, 5.0, 1.0)]
        return Timeline(*shares)

    steps = [RankStep(i, 100 + 0.1 * i, line(idle + 0.01 * i)) for i in range(8)]
    return Study(ranks=[Rank(0, None, steps=steps), Rank(1, None, steps=steps)])


def test_traces_are_compared_by_the_timelines_of_their_steps() -> None:
    found = compare(traced(5.0), traced(8.0))
    assert row(found, "device", "idle").verdict == "slower"
    assert row(found, "device", "compute").verdict == "same"
    assert row(found, "step", "step").before_ms == pytest.approx(100.35)


@pytest.mark.parametrize("text", ["step", "step>5", "step<5%", "step>-5%", "step>5%%", ">5%", "step>5 apples"])
def test_a_rule_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(LongpoleError, match="step>5%"):
        parse_rules([text])


def test_rules_break_beyond_noise_only() -> None:
    slower = compare(study(100, 10), study(108, 18, seed=2))
    apply_rules(slower, parse_rules(["step>5%, phase:data>5ms", "op_class:matmul>1%"][:1]))
    assert len(slower.failures) == 2
    assert "data went from 10 ms to 18 ms" in slower.failures[1]
    slower.failures.clear()
    apply_rules(slower, parse_rules(["step>10%", "data>9ms", "forward>1%"]))
    assert slower.failures == []
    apply_rules(slower, parse_rules(["layer:fc>0%"]))
    assert (slower.failures, slower.undecided) == ([], [])
    few = compare(study(100, 10, count=2), study(150, 60, count=2))
    apply_rules(few, parse_rules(["step>5%"]))
    assert few.failures == []
    assert few.undecided[0].startswith("step>5%: not known")


def test_a_rule_on_something_that_is_not_there_says_what_is() -> None:
    with pytest.raises(LongpoleError, match="there are data, forward"):
        apply_rules(compare(study(100, 10), study(100, 10)), parse_rules(["phase:dta>5%"]))


def test_a_phase_that_is_new_in_b_breaks_its_rule() -> None:
    after = study(100, 10)
    after.phases.append(PhaseTime("clip", 3.0, 0.03))
    found = compare(study(100, 10), after)
    apply_rules(found, parse_rules(["clip>1ms"]))
    assert len(found.failures) == 1
