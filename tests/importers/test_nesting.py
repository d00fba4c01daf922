"""The innermost enclosing event, against the definition tried on every pair."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longpole.trace import nest

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
