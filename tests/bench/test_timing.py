"""The protocol of a measurement, with a clock that is not real."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.bench.timing import SHORTEST_SAMPLE_NS, Protocol, measure, median_interval


@dataclass
class FakeTime:
    """A clock that only work moves; each call takes the next of `costs_ns`, the last one for ever."""

    costs_ns: list[int]
    now_ns: int = 0
    calls: int = 0
    flushes: list[int] = field(default_factory=list)

    def clock(self) -> int:
        return self.now_ns

    def work(self) -> None:
        self.now_ns += self.costs_ns[min(self.calls, len(self.costs_ns) - 1)]
        self.calls += 1

    def flush(self) -> None:
        self.flushes.append(self.calls)
        self.now_ns += 10**9


def test_a_steady_operation_settles_at_once_with_the_fewest_samples() -> None:
    time = FakeTime([1_000_000])
    found = measure(time.work, Protocol(clock=time.clock))
    assert (found.median_ns, found.low_ns, found.high_ns, found.least_ns) == (1e6, 1e6, 1e6, 1e6)
    assert (found.samples, found.calls_each, found.settled) == (5, 1, True)


def test_warm_up_goes_on_until_three_calls_agree_and_is_not_counted() -> None:
    time = FakeTime([9_000_000, 5_000_000, 2_000_000, 1_000_000])
    found = measure(time.work, Protocol(clock=time.clock))
    assert found.warmup_calls == 6
    assert found.median_ns == 1e6


def test_a_short_operation_is_called_often_in_one_sample() -> None:
    time = FakeTime([1000])
    found = measure(time.work, Protocol(clock=time.clock))
    assert found.calls_each == SHORTEST_SAMPLE_NS / 1000
    assert found.median_ns == 1000.0


def test_a_slow_operation_has_five_samples_whatever_the_budget() -> None:
    time = FakeTime([10**10])
    found = measure(time.work, Protocol(budget_s=0.01, clock=time.clock))
    assert found.samples == 5


def test_an_unsteady_operation_ends_with_the_budget_and_says_that_it_did_not_settle() -> None:
    time = FakeTime([10_000_000, 30_000_000] * 500)
    found = measure(time.work, Protocol(budget_s=1.0, clock=time.clock))
    assert not found.settled
    assert found.samples < 60
    assert time.now_ns < 1.2e9


def test_caches_are_emptied_before_every_sample_and_outside_the_clock() -> None:
    time = FakeTime([1000])
    found = measure(time.work, Protocol(clock=time.clock, budget_s=100.0), before_each=time.flush)
    assert found.calls_each == 1
    assert found.median_ns == 1000.0
    assert time.flushes == list(range(found.warmup_calls, found.warmup_calls + found.samples))


def test_the_interval_of_a_median_by_ranks() -> None:
    # of 100 sorted samples, ranks 100/2 -+ 0.98 * 10: the 41st and the 60th
    median, low, high = median_interval([float(number) for number in range(1, 101)])
    assert (median, low, high) == (50.5, 41.0, 60.0)
    assert median_interval([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=200))
def test_the_interval_holds_the_median(samples: list[float]) -> None:
    median, low, high = median_interval(samples)
    assert min(samples) <= low <= median <= high <= max(samples)


@pytest.mark.parametrize("most", [7, 50])
def test_no_more_samples_than_allowed(most: int) -> None:
    time = FakeTime([10_000_000, 30_000_000] * 500)
    assert measure(time.work, Protocol(budget_s=1e6, most=most, clock=time.clock)).samples == most
