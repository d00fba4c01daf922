"""The cheapest set that fits, against every set there is."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longpole.whatif.fit import Candidate, Fit, Problem, fit, least_ms, smallest_peak

if TYPE_CHECKING:
    from collections.abc import Iterator


def chain(count: int, freed: int = 10, ms: float = 1.0, top: int = 5) -> Problem:
    """Equal blocks, each of which leaves `freed` bytes until backward; the loss adds `top`."""
    blocks = [Candidate(f"blocks.{at}", at, at + 1, freed, ms, freed * (at + 1)) for at in range(count)]
    return Problem([*(freed * at for at in range(count)), freed * count + top], blocks)


def test_a_chain_by_hand() -> None:
    """4 blocks of 10 and a loss of 5 hold 45. 25 needs two blocks freed: 45 - 20. 24 needs three."""
    problem = chain(4)
    assert problem.peak_bytes(()) == 45
    for budget, count in ((45, 0), (44, 1), (35, 1), (34, 2), (25, 2), (24, 3), (15, 3), (14, 4)):
        found = fit(problem, budget)
        assert found is not None
        assert (len(found.chosen), found.ms, found.gap_ms) == (count, count, 0.0), budget
    # the first block, while it is computed again, holds its 10
    assert smallest_peak(problem).peak_bytes == 10
    assert fit(problem, 9) is None


def test_a_layer_before_the_peak_counts_and_one_after_it_does_not() -> None:
    """The peak of 30 is at position 1; only the first layer has been passed there."""
    first, second = Candidate("first", 0, 1, 10, 5.0, 10), Candidate("second", 1, 2, 25, 0.1, 12)
    found = fit(Problem([0, 30, 12], [first, second]), 20)
    assert found is not None
    assert [one.name for one in found.chosen] == ["first"]


def test_a_part_of_a_block_is_enough_where_it_is_cheaper() -> None:
    whole, part = Candidate("block", 0, 2, 20, 4.0, 20), Candidate("block.mlp", 1, 2, 15, 2.0, 20)
    problem = Problem([0, 5, 30], [whole, part])
    assert [one.name for one in (fit(problem, 20) or Fit((), 0, 0)).chosen] == ["block.mlp"]


def test_nothing_helps_where_the_update_is_the_peak() -> None:
    problem = Problem([0, 10, 20], [Candidate("block", 0, 1, 10, 1.0, 10)], fixed_bytes=50)
    assert problem.peak_bytes(()) == problem.peak_bytes(problem.candidates) == 50
    assert fit(problem, 49) is None


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Blocks of one to three positions in a row; a block may be chosen whole or by its parts."""
    candidates: list[Candidate] = []
    position = 0
    for block in range(draw(st.integers(1, 4))):
        parts = draw(st.integers(1, 3))
        spans = [(position, position + parts)] if parts > 1 else []
        spans += [(position + at, position + at + 1) for at in range(parts)]
        for at, (start, end) in enumerate(spans):
            sizes = (draw(st.integers(0, 30)), draw(st.integers(0, 12)), draw(st.integers(0, 60)))
            candidates.append(Candidate(f"{block}.{at}", start, end, sizes[0], sizes[1] / 4, sizes[2]))
        position += parts
    levels = draw(st.lists(st.integers(0, 100), min_size=position + 1, max_size=position + 1))
    return Problem(levels, candidates, draw(st.integers(0, 40)))


def sets(problem: Problem) -> Iterator[tuple[Candidate, ...]]:
    everything = list(problem.candidates)
    for count in range(len(everything) + 1):
        for chosen in combinations(everything, count):
            if all(a.end <= b.start or b.end <= a.start for a, b in combinations(chosen, 2)):
                yield chosen


@settings(max_examples=200, deadline=None)
@given(problems(), st.integers(0, 100))
def test_no_set_that_fits_is_cheaper(problem: Problem, budget: int) -> None:
    fitting = [sum(one.ms for one in chosen) for chosen in sets(problem) if problem.peak_bytes(chosen) <= budget]
    found = fit(problem, budget)
    assert (found is None) == (not fitting)
    if found is not None:
        assert found.ms == min(fitting)
        assert found.ms == sum(one.ms for one in found.chosen)
        assert found.peak_bytes == problem.peak_bytes(found.chosen) <= budget
        assert least_ms(problem, budget) <= found.ms + 1e-9


@settings(max_examples=100, deadline=None)
@given(problems())
def test_the_smallest_peak_is_the_smallest_of_all_sets(problem: Problem) -> None:
    assert smallest_peak(problem).peak_bytes == min(map(problem.peak_bytes, sets(problem)))


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(0, 100))
def test_a_thinned_search_states_a_gap_that_holds(problem: Problem, budget: int) -> None:
    exact, thinned = fit(problem, budget), fit(problem, budget, most_ways=2)
    if exact is None:
        assert thinned is None
    elif thinned is not None:
        assert thinned.peak_bytes <= budget
        assert exact.ms >= thinned.ms - thinned.gap_ms - 1e-9


@pytest.mark.parametrize("count", [30, 200])
def test_many_unequal_blocks_are_still_solved(count: int) -> None:
    """Prices of 1 to 7 a byte in no order: the bound by parts of layers is nearly reached."""
    blocks = [
        Candidate(f"{at}", at, at + 1, 1000 + 37 * (at * 7919 % 101), 1.0 + (at * 104729 % 61) / 10, 0)
        for at in range(count)
    ]
    total = sum(block.freed_bytes for block in blocks)
    problem = Problem([0] * count + [total], blocks)
    found = fit(problem, total // 2)
    assert found is not None
    assert found.peak_bytes <= total // 2
    assert 0 <= found.ms - least_ms(problem, total // 2) <= max(block.ms for block in blocks)
