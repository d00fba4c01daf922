"""The innermost enclosing event, against the definition tried on every pair."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longpole.trace import nest, table_order

EVENT = st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(0, 2), st.booleans())


@given(st.lists(EVENT, max_size=40))
def test_the_parent_is_the_last_to_start_before_that_has_not_ended(events) -> None:
    start, duration, lane, chosen = (
        (np.array(column) for column in zip(*events, strict=True)) if events else [np.empty(0, int)] * 4
    )
    rows = np.flatnonzero(chosen)
    order = sorted(rows.tolist(), key=lambda row: (start[row], -duration[row], row))
    expected = np.full(len(events), -1)
    for place, row in enumerate(order):
        before = [r for r in order[:place] if lane[r] == lane[row] and start[r] + duration[r] > start[row]]
        expected[row] = before[-1] if before else -1
    assert nest(start, duration, lane.astype(np.int32), rows).tolist() == expected.tolist()


@given(st.lists(EVENT, max_size=40))
def test_the_order_of_a_table_is_by_start_then_longest_then_as_given(events) -> None:
    start, duration, lane, _ = np.array(events, dtype=np.int64).reshape(-1, 4).T
    order = table_order(start, duration)
    expected = sorted(range(len(events)), key=lambda row: (start[row], -duration[row], row))
    assert order.tolist() == expected
    columns = start[order], duration[order], lane[order].astype(np.int32), np.arange(len(events))
    assert np.array_equal(nest(*columns, in_order=True), nest(*columns))
