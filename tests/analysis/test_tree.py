"""Own time and inheritance, against the plainest possible reckoning."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longpole.analysis.tree import inherit, outermost, self_ns
from longpole.trace.events import make_table


@st.composite
def forests(draw: st.DrawFn) -> list[int]:
    """Parents stand before their children."""
    count = draw(st.integers(1, 30))
    return [draw(st.integers(-1, row - 1)) for row in range(count)]


def ancestors(parent: list[int], row: int) -> list[int]:
    """The row itself first."""
    found = [row]
    while parent[found[-1]] >= 0:
        found.append(parent[found[-1]])
    return found


@given(forests(), st.data())
def test_inherit_is_the_nearest_ancestors_value(parent: list[int], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(-1, 5), min_size=len(parent), max_size=len(parent)))
    found = inherit(np.array(values, dtype=np.int64), np.array(parent, dtype=np.int32))
    for row in range(len(parent)):
        known = [values[a] for a in ancestors(parent, row) if values[a] != -1]
        assert found[row] == (known[0] if known else -1)


@given(forests(), st.data())
def test_outermost_is_the_last_wanted_ancestor(parent: list[int], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.booleans(), min_size=len(parent), max_size=len(parent)))
    found = outermost(np.array(wanted), np.array(parent, dtype=np.int32))
    for row in range(len(parent)):
        known = [a for a in ancestors(parent, row) if wanted[a]]
        assert found[row] == (known[-1] if known else -1)


def test_own_time_is_what_no_child_covers_and_sums_to_the_roots() -> None:
    """A 100 long with children 10..40 and 50..70, the first of which holds 15..25."""
    table = make_table(
        {
            "start_ns": [0, 10, 15, 50],
            "duration_ns": [100, 30, 10, 20],
            "name": [0] * 4,
            "kind": [0] * 4,
            "lane": [0] * 4,
            "parent": [-1, 0, 1, 0],
        }
    )
    own = self_ns(table, np.arange(4))
    assert own.tolist() == [50, 20, 10, 20]
    assert own.sum() == 100
