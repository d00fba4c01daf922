"""Which step is measured at which level, with durations made up."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.capture.plan import (
    DEEP,
    ENOUGH_SAMPLES,
    LEAST_SAMPLED,
    MOST_RECORDED,
    MOST_SAMPLED,
    OPENING,
    SAMPLED_SHARE,
    Plan,
    WindowOptions,
)
from longpole.trace.kinds import Level

MS = 1_000_000
SECOND = 1_000 * MS


def levels_of(
    options: WindowOptions, step_ns: int = 100 * MS, first_ns: int = 0, samples: int = ENOUGH_SAMPLES
) -> list[Level]:
    """The level of each step, from the one after the first turn until the window is over.

    Each step at Level.SITES has this many samples of the sampling thread.
    """
    plan = Plan(options)
    found = [plan.after(first_ns or step_ns, 0)]
    for _ in range(5000):
        plan.ops_recorded = Level.OPS in found[:-1]
        block = next((at for at, level in enumerate(reversed(found)) if level != Level.SITES), len(found))
        found.append(plan.after(step_ns, block * samples))
        if plan.over:
            return found[:-1]
    raise AssertionError("the window never ended")


def blocks_as_one(levels: list[Level]) -> tuple[Level, ...]:
    runs = [(level, len(list(run))) for level, run in itertools.groupby(levels)]
    return tuple(level for level, length in runs for _ in range(1 if level in (Level.OPS, Level.SITES) else length))


def counted(levels: list[Level]) -> dict[Level, int]:
    return {level: levels.count(level) for level in Level}


def test_the_opening_comes_right_after_the_warm_up() -> None:
    levels = levels_of(WindowOptions(steps=20, warmup=5))
    assert levels[:5] == [Level.NONE] * 5
    assert blocks_as_one(levels[5:])[: len(OPENING)] == OPENING


def test_as_many_steps_are_timed_as_were_asked_for() -> None:
    assert counted(levels_of(WindowOptions(steps=20, warmup=5)))[Level.PHASES] == 20


def test_one_step_is_answered_with_the_whole_opening() -> None:
    assert blocks_as_one(levels_of(WindowOptions(steps=1, warmup=0))) == OPENING


def test_a_deep_step_is_followed_by_another_or_by_one_that_is_not_measured() -> None:
    levels = levels_of(WindowOptions(steps=40, warmup=2))
    for here, after in itertools.pairwise(levels):
        if here in DEEP:
            assert after in (here, Level.NONE)


def test_no_deeper_than_asked() -> None:
    levels = levels_of(WindowOptions(steps=10, warmup=1, deepest=Level.PHASES))
    assert set(levels) == {Level.NONE, Level.PHASES}


def test_slow_steps_end_the_window_early_but_not_before_the_opening_is_done() -> None:
    levels = levels_of(WindowOptions(steps=20, warmup=5, budget_s=120), step_ns=12 * SECOND)
    assert levels[:2] == [Level.NONE] * 2, "two warm-up steps, since 15 % of the budget is 18 s"
    assert blocks_as_one(levels[2:]) == OPENING


def test_steps_so_slow_that_the_opening_would_take_twice_the_budget_are_cut() -> None:
    levels = levels_of(WindowOptions(steps=20, warmup=5, budget_s=120), step_ns=60 * SECOND)
    assert len(levels) < len(OPENING)
    assert Level.OPS in levels, "the first look at ops comes early"


def test_preparations_of_the_script_take_nothing_from_the_budget() -> None:
    options = WindowOptions(steps=20, warmup=5, budget_s=120)
    assert levels_of(options, first_ns=600 * SECOND) == levels_of(options)


def test_ops_are_recorded_in_one_block_only() -> None:
    levels = levels_of(WindowOptions(steps=60, warmup=2))
    runs = [len(list(run)) for level, run in itertools.groupby(levels) if level == Level.OPS]
    assert runs == [MOST_RECORDED]


def test_ops_are_tried_again_where_there_was_nothing_to_record() -> None:
    plan = Plan(WindowOptions(steps=60, warmup=0))
    levels = [plan.after(100 * MS, ENOUGH_SAMPLES) for _ in range(60)]
    assert len([level for level, _ in itertools.groupby(levels) if level == Level.OPS]) > 1


def test_the_block_of_slow_steps_is_short() -> None:
    levels = levels_of(WindowOptions(steps=20, warmup=0, budget_s=100), step_ns=6 * SECOND)
    assert levels.count(Level.OPS) == 2, "6 s are within 10 % of the budget, 12 s are not"


def sampled_blocks(levels: list[Level]) -> list[int]:
    return [len(list(run)) for level, run in itertools.groupby(levels) if level == Level.SITES]


def test_short_steps_are_sampled_until_there_is_something_to_see() -> None:
    options = WindowOptions(steps=5, warmup=1)
    assert sampled_blocks(levels_of(options, step_ns=5 * MS, samples=ENOUGH_SAMPLES // 8))[0] == 8


def test_a_few_long_steps_are_sampled_however_many_samples_one_has() -> None:
    levels = levels_of(WindowOptions(steps=5, warmup=1), step_ns=SECOND, samples=10 * ENOUGH_SAMPLES)
    assert sampled_blocks(levels)[0] == LEAST_SAMPLED, "short gaps in a long step are hit by few of its samples"


def test_very_short_steps_are_sampled_for_a_limited_number() -> None:
    levels = levels_of(WindowOptions(steps=5, warmup=1), step_ns=MS // 10, samples=0)
    assert sampled_blocks(levels)[0] == MOST_SAMPLED


def test_slow_steps_that_show_nothing_are_sampled_no_longer_than_a_share_of_the_budget() -> None:
    levels = levels_of(WindowOptions(steps=5, warmup=1, budget_s=100), step_ns=SECOND, samples=0)
    assert sampled_blocks(levels)[0] == SAMPLED_SHARE * 100 + 1


@pytest.mark.parametrize("warmup", [0, 1, 3, 9])
def test_warm_up_steps_are_counted(warmup: int) -> None:
    levels = levels_of(WindowOptions(steps=3, warmup=warmup))
    assert levels[: warmup + 1] == [Level.NONE] * warmup + [Level.PHASES]


@given(
    st.integers(1, 60),
    st.integers(0, 20),
    st.floats(1, 1000),
    st.lists(st.integers(1, 30 * SECOND), min_size=1, max_size=50),
)
def test_every_window_ends_and_never_times_too_many(steps: int, warmup: int, budget: float, times: list[int]) -> None:
    plan = Plan(WindowOptions(steps=steps, warmup=warmup, budget_s=budget))
    levels: list[Level] = []
    for duration in itertools.cycle(times):
        levels.append(plan.after(duration, 0))
        if plan.over:
            break
        assert len(levels) < 20_000
    most = max(steps, OPENING.count(Level.PHASES))
    assert plan.measured == levels.count(Level.PHASES) <= most
    assert plan.warmed_up <= warmup + 1


@pytest.mark.parametrize("step_ms", [5, 50, 400])
@pytest.mark.parametrize("period", range(2, 11))
def test_what_a_script_does_every_so_many_steps_is_met_as_often_as_it_happens(period: int, step_ms: int) -> None:
    """Wherever the evaluation of a script with one every `period` steps falls, at least half its due is measured."""
    samples = 2 * step_ms
    levels = levels_of(WindowOptions(steps=80, warmup=5), step_ns=step_ms * MS, samples=samples)
    timed = [at for at, level in enumerate(levels) if level == Level.PHASES]
    hits = [sum(at % period == offset for at in timed) for offset in range(period)]
    assert min(hits) >= 0.5 * len(timed) / period
    assert max(hits) <= 1.6 * len(timed) / period


@pytest.mark.parametrize("period", range(2, 6))
def test_twenty_steps_miss_nothing_that_happens_every_fifth(period: int) -> None:
    levels = levels_of(WindowOptions(steps=20, warmup=5), step_ns=50 * MS, samples=90)
    timed = [at for at, level in enumerate(levels) if level == Level.PHASES]
    assert {at % period for at in timed} == set(range(period))
