"""What a sweep varies, as it is typed: `batch=8,16,32`, `threads=1,2`, `--batch-size=8,16,32`."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from longpole.errors import LongpoleError
from longpole.whatif.changes import Changes

if TYPE_CHECKING:
    from collections.abc import Sequence

FORM = 'give it as --vary batch=8,16,32, --vary threads=1,2 or --vary "--batch-size=8,16,32"'
MOST_VALUES = 64
LARGEST = 1 << 40
FLAG = re.compile(r"--?[A-Za-z][\w.-]*")
SEED = 20130  # the same sweep runs in the same order


class Axis(msgspec.Struct, frozen=True):
    """One thing that is varied. A batch goes in through the DataLoader, or through a flag of the script's own."""

    name: str  # "batch" or "threads"
    values: tuple[int, ...]
    flag: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One combination; None where that is not varied."""

    batch: int | None = None
    threads: int | None = None

    def __str__(self) -> str:
        parts = [f"batch {self.batch}"] if self.batch is not None else []
        return ", ".join([*parts, *([f"threads {self.threads}"] if self.threads is not None else [])])


def parse_axes(texts: Sequence[str]) -> tuple[Axis, ...]:
    """The axes, batch first. Raises LongpoleError where a text is none, or the sweep would vary nothing."""
    found = [_axis(text) for text in texts]
    names = [axis.name for axis in found]
    if len(set(names)) < len(names):
        raise LongpoleError(f"--vary {texts[-1]}: only one batch and one number of threads can be varied; drop one")
    if not found or all(len(axis.values) < 2 for axis in found):
        raise LongpoleError(f"nothing is varied: name at least two values; {FORM}")
    return tuple(sorted(found, key=lambda axis: axis.name))


def is_axis(text: str) -> bool:
    """Whether this text can be meant for `--vary`."""
    try:
        _axis(text)
    except LongpoleError:
        return False
    return True


def _axis(text: str) -> Axis:
    name, equals, list_ = text.rpartition("=")
    parts = list_.split(",")
    if not equals or not all(part.isascii() and part.isdecimal() for part in parts):
        raise LongpoleError(f"--vary {text}: no list of whole numbers; {FORM}")
    values = tuple(int(part[:20]) for part in parts)
    if len(set(values)) < len(values) or len(values) > MOST_VALUES or not all(0 < v <= LARGEST for v in values):
        raise LongpoleError(f"--vary {text}: values must be above 0, each there once, at most {MOST_VALUES} of them")
    if name in ("batch", "threads"):
        return Axis(name, values)
    if FLAG.fullmatch(name):
        return Axis("batch", values, name)
    raise LongpoleError(f"--vary {text}: {name or 'nothing'} cannot be varied; {FORM}")


def points_of(axes: Sequence[Axis]) -> list[Point]:
    """Every combination."""
    combined = itertools.product(*(axis.values for axis in axes))
    return [Point(**dict(zip((axis.name for axis in axes), values, strict=True))) for values in combined]


def order_of(points: Sequence[Point], rounds: int) -> list[tuple[int, Point]]:
    """Every point once a round, each round in an order of its own: what drifts falls on all of them alike."""
    shuffle = random.Random(SEED)
    found: list[tuple[int, Point]] = []
    for round_ in range(rounds):
        found += [(round_, point) for point in shuffle.sample(list(points), len(points))]
    return found


def changes_of(point: Point, axes: Sequence[Axis]) -> Changes:
    """What longpole changes about the script; a flag is the script's own business."""
    has_flag = any(axis.flag for axis in axes)
    return Changes(threads=point.threads, batch_size=None if has_flag else point.batch)


def arguments_of(point: Point, axes: Sequence[Axis], args: Sequence[str]) -> list[str]:
    """The script's arguments, its own flag set to this point's batch."""
    flag = next((axis.flag for axis in axes if axis.flag), None)
    if flag is None:
        return list(args)
    found: list[str] = []
    skip = False
    for arg in args:
        if not skip and arg != flag and not arg.startswith(f"{flag}="):
            found.append(arg)
        skip = not skip and arg == flag
    is_long = flag.startswith("--")
    return [*found, f"{flag}={point.batch}"] if is_long else [*found, flag, str(point.batch)]
