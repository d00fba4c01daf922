"""Where JSON text has brackets outside strings, and how deep: vectorised, for layouts nobody promised."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BORDER = re.compile(rb"\}\s*,\s*\{\s*\"[^\"]{0,40}\"")
LEARN_BYTES = 1 << 16


def structure(text: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of `{}[]` outside strings, and the depth after each; `text` starts outside strings, at depth 0."""
    data = np.frombuffer(text, dtype=np.uint8)
    quotes = np.flatnonzero(data == ord('"'))
    if b"\\" in text:
        quotes = quotes[~_escaped(text, data, quotes)]
    folded = data | 0x20  # `[` and `]` become `{` and `}`
    brackets = np.flatnonzero((folded == ord("{")) | (folded == ord("}")))
    brackets = brackets[np.searchsorted(quotes, brackets) % 2 == 0]
    return brackets, np.cumsum(np.where(folded[brackets] == ord("{"), 1, -1))


def _escaped(text: bytes, data: NDArray[np.uint8], quotes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which quotes have an odd number of backslashes before them."""
    escaped = np.zeros(len(quotes), dtype=np.bool_)
    suspects = np.flatnonzero((data[np.maximum(quotes - 1, 0)] == ord("\\")) & (quotes > 0))
    for index in suspects.tolist():
        end = int(quotes[index])
        run = end - len(text[max(0, end - 4096) : end].rstrip(b"\\")) - max(0, end - 4096)
        escaped[index] = run % 2 == 1
    return escaped


def event_spans(text: bytes) -> tuple[list[tuple[int, int]], int | None]:
    """(start, end) of each whole top-level value in `text`, and the position of the bracket that closes the array.

    `text` is the inside of an array, from the border of an element on; the position is None where the array
    is not closed within `text`.
    """
    brackets, depth = structure(text)
    below = np.flatnonzero(depth < 0)
    closing = int(brackets[below[0]]) if len(below) else None
    if len(below):
        brackets, depth = brackets[: below[0]], depth[: below[0]]
    ends = np.flatnonzero(depth == 0)
    starts = brackets[np.r_[0, ends[:-1] + 1]] if len(ends) else ends
    return list(zip(starts.tolist(), (brackets[ends] + 1).tolist(), strict=True)), closing


def learn_border(text: bytes) -> bytes | None:
    """How this file writes a border between events, from a `}` and the white space before it to the next key.

    None where its first events do not show one.
    """
    spans, _ = event_spans(text[:LEARN_BYTES])
    for _, end in spans:
        found = BORDER.match(text, end - 1)
        if found:
            start = len(text[: end - 1].rstrip(b" \t\r\n"))
            return text[start : found.end()]
    return None
