"""The distinct values of whole numbers that lie close together, like rows of a table: found by marking, not sorting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPARSE = 32  # table cells a value: a wider table costs more than sorting
SMALL = 1 << 16  # cells that cost nothing


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """As np.unique, of integers."""
    marks = _marked(values)
    if marks is None:
        return np.unique(values)
    return (np.flatnonzero(marks) + int(values.min())).astype(values.dtype)


def distinct_with_inverse(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """As np.unique with return_inverse, of integers in one dimension."""
    marks = _marked(values)
    if marks is None:
        found, inverse = np.unique(values, return_inverse=True)
        return found, inverse.reshape(-1)
    low, present = int(values.min()), np.flatnonzero(marks)
    number = np.empty(len(marks), dtype=np.intp)
    number[present] = np.arange(len(present))
    return (present + low).astype(values.dtype), number[values.astype(np.int64) - low]


def _marked(values: NDArray[Any]) -> NDArray[np.bool_] | None:
    """A cell for each number from the least to the greatest, and whether it occurs; None where that is too many."""
    if not len(values):
        return None
    low, high = int(values.min()), int(values.max())
    if high - low >= max(SPARSE * len(values), SMALL):
        return None
    marks = np.zeros(high - low + 1, dtype=np.bool_)
    marks[values.astype(np.int64) - low] = True
    return marks
