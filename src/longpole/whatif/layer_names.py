"""Which layers a user means: `blocks.2`, `blocks.*`, `blocks.2-5`, `**.mlp`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Sequence

RANGE = re.compile(r"(\d{1,6})-(\d{1,6})")
DEEP = "**"
MOST_PARTS = 64


@dataclass(frozen=True, slots=True)
class Pattern:
    """A layer's path in which a part may be a glob, a range of numbers, or `**` for any number of parts."""

    text: str
    parts: tuple[str, ...]

    def fits(self, path: str) -> bool:
        return _fits(self.parts, tuple(path.split(".")))


def parse_patterns(texts: Sequence[str]) -> tuple[Pattern, ...]:
    """Patterns of what was given, each text one pattern or several with commas between them.

    Raises LongpoleError where a part is empty or a range runs backwards.
    """
    found = [part.strip() for text in texts for part in text.split(",")]
    return tuple(dict.fromkeys(_pattern(text) for text in found))


def _pattern(text: str) -> Pattern:
    parts = tuple(text.split("."))
    if not all(parts) or len(parts) > MOST_PARTS:
        raise LongpoleError(f"--checkpoint {text!r}: not the name of a layer; write blocks.2, blocks.2-5 or blocks.*")
    for part in parts:
        numbers = RANGE.fullmatch(part)
        if numbers and int(numbers[1]) > int(numbers[2]):
            raise LongpoleError(f"--checkpoint {text!r}: {part} runs backwards; write {numbers[2]}-{numbers[1]}")
    return Pattern(text, parts)


def _fits(parts: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Row by row: which first so many parts fit the first so many names. No pattern makes it slow."""
    row = [True, *(False for _ in names)]
    for part in parts:
        if part == DEEP:
            first = row.index(True) if True in row else len(row)
            row = [at >= first for at in range(len(row))]
        else:
            row = [False, *(before and _part_fits(part, name) for before, name in zip(row, names, strict=False))]
    return row[-1]


def _part_fits(part: str, name: str) -> bool:
    numbers = RANGE.fullmatch(part)
    if numbers and name.isdecimal():
        return int(numbers[1]) <= int(name) <= int(numbers[2])
    return fnmatchcase(name, part)


def shortest(paths: Sequence[str]) -> str:
    """Names that stand for these layers, numbers in a row as a range: `blocks.0-3.mlp`, with commas between."""
    found: dict[tuple[str, ...], None] = {}
    for parts in sorted({tuple(path.split(".")) for path in paths}, key=_in_order):
        last = next(reversed(found), None)
        joined = _joined(last, parts) if last is not None else None
        if last is not None and joined is not None:
            del found[last]
        found[joined or parts] = None
    return ",".join(".".join(parts) for parts in found)


def _in_order(parts: tuple[str, ...]) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _joined(before: tuple[str, ...], parts: tuple[str, ...]) -> tuple[str, ...] | None:
    """Both as one, where they differ in one number and the second follows the first."""
    if len(before) != len(parts):
        return None
    differing = [at for at, (a, b) in enumerate(zip(before, parts, strict=True)) if a != b]
    if len(differing) != 1:
        return None
    at = differing[0]
    numbers = RANGE.fullmatch(before[at])
    first, last = (numbers[1], numbers[2]) if numbers else (before[at], before[at])
    if not (first.isdecimal() and parts[at].isdecimal() and int(last) + 1 == int(parts[at])):
        return None
    return (*before[:at], f"{first}-{parts[at]}", *before[at + 1 :])
