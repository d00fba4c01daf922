"""Sets of time as sorted, disjoint half-open intervals [start, end) of int64 nanoseconds, with their algebra.

An interval set is a pair of arrays of one length. Empty and backward intervals hold no time and vanish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Intervals: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.int64]]"


def union(start: NDArray[np.int64], end: NDArray[np.int64]) -> Intervals:
    """The set of all times inside any of the given intervals, which may overlap and come in any order.

    Intervals that touch become one.
    """
    real = end > start
    start, end = start[real], end[real]
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    if not len(start):
        return start, end
    reach = np.maximum.accumulate(end)
    fresh = np.r_[True, start[1:] > reach[:-1]]
    last = np.r_[np.flatnonzero(fresh)[1:] - 1, len(start) - 1]
    return start[fresh], reach[last]


def total(intervals: Intervals) -> int:
    """Nanoseconds in the set."""
    start, end = intervals
    return int(np.sum(end - start))


def intersect(one: Intervals, other: Intervals) -> Intervals:
    """Times in both sets."""
    return _sweep(one, other, need=2)


def subtract(one: Intervals, other: Intervals) -> Intervals:
    """Times in `one` that are not in `other`."""
    if not len(one[0]) or not len(other[0]):
        return one
    low, high = int(min(one[0][0], other[0][0])), int(max(one[1][-1], other[1][-1]))
    return intersect(one, complement(other, low, high))


def complement(intervals: Intervals, low: int, high: int) -> Intervals:
    """Times of [low, high) that are not in the set."""
    start, end = clip(intervals, low, high)
    return _real(np.r_[np.int64(low), end], np.r_[start, np.int64(high)])


def clip(intervals: Intervals, low: int, high: int) -> Intervals:
    """The part of the set inside [low, high)."""
    start, end = intervals
    return _real(np.maximum(start, low), np.minimum(end, high))


def _real(start: NDArray[np.int64], end: NDArray[np.int64]) -> Intervals:
    keep = end > start
    return start[keep], end[keep]


def _sweep(one: Intervals, other: Intervals, need: int) -> Intervals:
    """Times covered by at least `need` of two disjoint sets."""
    edges = np.concatenate([one[0], other[0], one[1], other[1]])
    opens = len(one[0]) + len(other[0])
    step = np.r_[np.ones(opens, dtype=np.int64), -np.ones(len(edges) - opens, dtype=np.int64)]
    order = np.lexsort((step, edges))  # ends first: intervals that touch do not overlap
    edges, depth = edges[order], np.cumsum(step[order])
    inside = np.flatnonzero(depth >= need)
    return _real(edges[inside], edges[np.minimum(inside + 1, len(edges) - 1)])
