"""What recording costs is taken off in equal amounts an event, never in proportion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.analysis.probe import without_probe


def test_each_event_costs_the_same_on_paper() -> None:
    """10 + 4 + 2 with 1, 1 and 2 events, 4 too many in all: one for each event."""
    assert without_probe(np.array([10.0, 4, 2]), np.array([1.0, 1, 2]), 12).tolist() == pytest.approx([9, 3, 0])


def test_what_has_nothing_left_gives_nothing_more() -> None:
    """10 + 1 less 4: the short one gives its 1, the long one the other 3."""
    assert without_probe(np.array([10.0, 1]), np.array([1.0, 1]), 7).tolist() == pytest.approx([7, 0])


def test_a_long_op_is_not_shrunk_for_the_sake_of_short_ones() -> None:
    own = np.array([1000.0, *[1.5] * 100])
    found = without_probe(own, np.ones(101), float(own.sum()) - 100)
    assert found[0] == pytest.approx(1000 - 100 / 101)


def test_too_little_is_stretched_and_nothing_stays_nothing() -> None:
    assert without_probe(np.array([1.0, 3]), np.array([1.0, 1]), 8).tolist() == [2, 6]
    assert without_probe(np.zeros(2), np.ones(2), 8).tolist() == [0, 0]


TIMES = st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 30)), min_size=1, max_size=40)


@given(TIMES, st.floats(0, 1e4))
def test_times_sum_to_the_target_and_none_is_negative(entries: list[tuple[float, int]], target: float) -> None:
    own, events = (np.array(column, dtype=float) for column in zip(*entries, strict=True))
    found = without_probe(own, events, target)
    assert (found >= 0).all()
    if own.sum() > 1e-6:
        assert found.sum() == pytest.approx(target, rel=1e-6, abs=1e-6)
