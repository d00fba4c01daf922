"""Small numbers for repeated values, at the speed of a dictionary look-up in C."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from longpole.trace import Interner

Identity: TypeAlias = int | str


class Names(dict[str, int]):
    """text -> row of Trace.strings; a new text gets the next row from `interner`."""

    def __init__(self, interner: Interner) -> None:
        super().__init__()
        self._interner = interner

    def __missing__(self, text: str) -> int:
        self[text] = number = self._interner(text)
        return number


class LaneCodes(dict[tuple[Identity, Identity], int]):
    """(process, thread) as written -> number; `"7"`, `7` and `"stream 7"` are one thread of a process."""

    def __init__(self) -> None:
        super().__init__()
        self.keys_seen: list[tuple[Identity, Identity]] = []
        self._numbers: dict[tuple[Identity, Identity], int] = {}

    def __missing__(self, key: tuple[Identity, Identity]) -> int:
        plain = (plain_identity(key[0]), plain_identity(key[1]))
        if plain not in self._numbers:
            self._numbers[plain] = len(self.keys_seen)
            self.keys_seen.append(plain)
        self[key] = number = self._numbers[plain]
        return number


def plain_identity(value: Identity) -> Identity:
    """The number in `"4093687616"` or `"stream 7"`, else the value itself."""
    if isinstance(value, int):
        return value
    digits = value.removeprefix("stream ").strip()
    return int(digits) if digits.isdecimal() and len(digits) < 19 else value
