"""The part of a JSON event list that is in memory: one buffer, used over and over, decoded where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.importers.source import Source

BETWEEN = b" \t\r\n,"
FRONT = 1  # the byte before the text, for the bracket that opens the array
Found = TypeVar("Found")


class Window:
    """Text from the border of an event on. Reading costs no memory that was not there: fresh pages cost more
    than decoding does. What is decoded from the buffer must not look into it after the next `fill`.
    """

    def __init__(self, text: bytes) -> None:
        self._data = bytearray(b"[" + text + b" ")
        self.end = FRONT + len(text)

    def __len__(self) -> int:
        return self.end - FRONT

    def fill(self, source: Source, size: int) -> bool:
        """Appends up to `size` bytes of the source; False at its end."""
        if self.end + size >= len(self._data):
            self._data = self._data[: self.end] + bytes(size + self.end)
        count = source.readinto(memoryview(self._data)[self.end : self.end + size])
        self.end += count
        return count > 0

    def text(self, limit: int | None = None) -> bytes:
        """A copy of the text, or of its beginning."""
        return bytes(memoryview(self._data)[FRONT : self.end if limit is None else min(self.end, FRONT + limit)])

    def rfind(self, what: bytes) -> int:
        """Where in the text it comes last; -1 where it does not."""
        return max(self._data.rfind(what, FRONT, self.end) - FRONT, -1)

    def as_array(self, stop: int, decode: Callable[[memoryview], Found]) -> Found:
        """What `decode` makes of `[` + the text up to `stop` + `]`."""
        place = FRONT + stop
        held = self._data[place]
        self._data[0], self._data[place] = ord("["), ord("]")
        try:
            return decode(memoryview(self._data)[: place + 1])
        finally:
            self._data[place] = held

    def drop(self, stop: int) -> None:
        """Forgets the text up to `stop`, and commas and white space after it."""
        rest = bytes(memoryview(self._data)[FRONT + stop : self.end]).lstrip(BETWEEN)
        self._data[FRONT : FRONT + len(rest)] = rest
        self.end = FRONT + len(rest)
