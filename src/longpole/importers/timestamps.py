"""Integer nanoseconds from the microseconds of a trace, to the last digit written."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Below 2**43 microseconds neighbouring doubles are less than a nanosecond apart.
EXACT_BELOW_US = float(2**43)
LIMIT_US = 9.2e15  # int64 nanoseconds


def loses_digits(microseconds: NDArray[np.float64]) -> bool:
    """Whether a double cannot hold these stamps to the nanosecond; whole microseconds it always can."""
    large = microseconds[np.abs(microseconds) >= EXACT_BELOW_US]
    return bool(len(large)) and bool(np.any((large != np.floor(large)) | (large >= LIMIT_US)))


def to_ns(microseconds: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Nanoseconds, and which of them are usable (finite, within int64)."""
    usable = np.abs(microseconds) < LIMIT_US  # False for NaN
    held = np.where(usable, microseconds, 0.0)
    whole = np.floor(held)
    return whole.astype(np.int64) * 1000 + np.rint((held - whole) * 1000).astype(np.int64), usable


def digits_to_ns(texts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The same from digits as written, `b"1712195495519689.047"`; slower, and exact at any size."""
    table = np.array(texts, dtype=np.bytes_)
    width = table.dtype.itemsize
    cells = table.view(np.uint8).reshape(len(texts), width)
    dot = width - 4
    regular = dot > 0 and bool(np.all(cells[:, dot] == ord("."))) and _all_digits(np.delete(cells, dot, axis=1))
    if not regular or dot > 15:
        return _slowly(texts)
    whole = np.ascontiguousarray(cells[:, :dot]).view(f"S{dot}").astype(np.int64)[:, 0]
    thousandths = cells[:, dot + 1 :].astype(np.int64) - ord("0")
    return whole * 1000 + thousandths @ np.array([100, 10, 1]), np.ones(len(texts), dtype=np.bool_)


def _all_digits(cells: NDArray[np.uint8]) -> bool:
    return bool(np.all((cells >= ord("0")) & (cells <= ord("9"))))


def _slowly(texts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    found = [_one(text) for text in texts]
    usable = np.array([value is not None for value in found], dtype=np.bool_)
    return np.array([value or 0 for value in found], dtype=np.int64), usable


def _one(text: bytes) -> int | None:
    try:
        value = Decimal(text.decode("ascii", "replace").strip('"')) * 1000
    except InvalidOperation:
        return None
    if not value.is_finite() or abs(value) >= Decimal(LIMIT_US) * 1000:
        return None
    return int(value.to_integral_value())
