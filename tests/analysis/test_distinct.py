"""Distinct values by marking are those by sorting, of any integers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longpole.analysis.distinct import distinct, distinct_with_inverse

NUMBERS = st.lists(st.integers(-(2**62), 2**62) | st.integers(-3, 9), max_size=40)


@given(NUMBERS)
def test_as_sorting_finds_them(numbers: list[int]) -> None:
    for values in (np.array(numbers, dtype=np.int64), np.array(numbers, dtype=np.int64).astype(np.uint8)):
        expected, places = np.unique(values, return_inverse=True)
        found, inverse = distinct_with_inverse(values)
        assert np.array_equal(distinct(values), expected)
        assert np.array_equal(found, expected)
        assert np.array_equal(inverse, places.reshape(-1))
        assert found.dtype == values.dtype
