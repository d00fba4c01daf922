"""Events as a tree: own time, and what is handed down from parents to children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.trace import EventTable

NOTHING = -1


def self_ns(events: EventTable, rows: NDArray[np.intp]) -> NDArray[np.int64]:
    """Time of each of these rows that is in none of their children; whole-table shape, 0 elsewhere."""
    own = np.zeros(len(events), dtype=np.int64)
    own[rows] = events.duration_ns[rows]
    parent = events.parent[rows]
    inside = parent >= 0
    # A child may end after its parent by the grain of the clock: only its part inside counts.
    child, parent = rows[inside], parent[inside]
    covered = np.minimum(events.end_ns[child], events.end_ns[parent]) - events.start_ns[child]
    np.subtract.at(own, parent, np.maximum(covered, 0))
    return np.maximum(own, 0)


def inherit(values: NDArray[np.int64], parent: NDArray[np.int32]) -> NDArray[np.int64]:
    """Values with every -1 replaced by that of the nearest ancestor which has one.

    Rows jump to where the event above them looks next, which doubles the reach each round.
    """
    found, up = _narrow(values), parent.copy()
    if np.all(found == NOTHING):
        return values.copy()
    open_rows = np.flatnonzero((found == NOTHING) & (up >= 0))
    while len(open_rows):
        above = up[open_rows]
        value, further = found[above], up[above]
        found[open_rows], up[open_rows] = value, further
        open_rows = open_rows[(value == NOTHING) & (further >= 0)]
    return found.astype(np.int64)


def _narrow(values: NDArray[np.int64]) -> NDArray[Any]:
    """A copy in as few bytes as hold the values: those of a million events fit the cache then, which saves a third."""
    low, high = int(values.min(initial=NOTHING)), int(values.max(initial=NOTHING))
    fits = (kind for kind in (np.int8, np.int32) if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return values.astype(next(fits, np.int64))


def outermost(wanted: NDArray[np.bool_], parent: NDArray[np.int32]) -> NDArray[np.int64]:
    """For each row the row of its outermost ancestor-or-self that is wanted; -1 where there is none."""
    rows = np.where(wanted, np.arange(len(parent)), NOTHING)
    nearest = inherit(rows, parent)
    while True:
        above = np.where(nearest >= 0, parent[np.maximum(nearest, 0)], NOTHING)
        higher = np.where(above >= 0, nearest[np.maximum(above, 0)], NOTHING)
        better = higher >= 0
        if not better.any():
            return nearest
        nearest = np.where(better, higher, nearest)


def sums(index: NDArray[np.integer[Any]], values: NDArray[Any], count: int) -> NDArray[np.float64]:
    """The sum of the values at each index from 0 to `count`."""
    return np.bincount(index, weights=values, minlength=count).astype(np.float64)
