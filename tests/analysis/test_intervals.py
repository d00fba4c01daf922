"""The algebra of intervals against sets of whole nanoseconds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longpole.analysis import intervals

PAIRS = st.lists(st.tuples(st.integers(-50, 50), st.integers(-5, 20)), max_size=12)  # (start, length)


def arrays(pairs):
    start = np.array([pair[0] for pair in pairs], dtype=np.int64)
    return start, start + np.array([pair[1] for pair in pairs], dtype=np.int64)


def points(found) -> set[int]:
    return {ns for start, end in zip(*found, strict=True) for ns in range(int(start), int(end))}


@given(PAIRS)
def test_a_union_is_the_set_of_all_points_sorted_and_apart(pairs) -> None:
    start, end = intervals.union(*arrays(pairs))
    assert points((start, end)) == points(arrays(pairs))
    assert (end > start).all()
    assert (start[1:] > end[:-1]).all()
    assert intervals.total((start, end)) == len(points(arrays(pairs)))


@given(PAIRS, PAIRS)
def test_intersection_and_difference_are_those_of_sets(one, other) -> None:
    a, b = intervals.union(*arrays(one)), intervals.union(*arrays(other))
    both, only = intervals.intersect(a, b), intervals.subtract(a, b)
    assert points(both) == points(a) & points(b)
    assert points(only) == points(a) - points(b)
    assert intervals.total(both) + intervals.total(only) == intervals.total(a)
    for start, end in (both, only):
        assert (end > start).all()
        assert (start[1:] >= end[:-1]).all()


@given(PAIRS, st.integers(-60, 60), st.integers(-60, 60))
def test_a_window_and_what_is_left_of_it_sum_to_it(pairs, low, high) -> None:
    held = intervals.union(*arrays(pairs))
    inside, outside = intervals.clip(held, low, high), intervals.complement(held, low, high)
    assert points(inside) == points(held) & set(range(low, high))
    assert points(outside) == set(range(low, high)) - points(held)


def test_large_stamps_keep_every_nanosecond() -> None:
    base = 1712195495519689047  # beyond what a double counts
    found = intervals.union(np.array([base, base + 3]), np.array([base + 2, base + 4]))
    assert intervals.total(found) == 3


def test_nothing_is_nothing() -> None:
    nothing = intervals.union(np.empty(0, np.int64), np.empty(0, np.int64))
    something = (np.array([1]), np.array([5]))
    assert intervals.total(nothing) == 0
    assert intervals.total(intervals.intersect(nothing, something)) == 0
    assert intervals.total(intervals.subtract(something, nothing)) == 4
