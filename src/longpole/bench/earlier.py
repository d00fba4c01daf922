"""Results of an earlier run beside those of now: row by row, and only where that is fair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.bench.published import Published
from longpole.bench.results import Results, Row, differences, load_results
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_OVERLAP = "the 95 % intervals of both medians overlap: no difference is shown"


def earlier(path: Path, now: Results) -> Callable[[Row], list[Published]]:
    """Finds what a file of results has for a row: the same size, direction, type and cache.

    LongpoleError where there is no such file, or its conditions make a comparison unfair.
    """
    old = load_results(path)
    if old is None:
        raise LongpoleError(f"there are no results {path} to compare with")
    unfair = differences(old, now)
    if unfair:
        raise LongpoleError(f"{path} cannot be compared fairly with this run: {'; '.join(unfair)}")
    known = {_key(row): row for row in old.rows if row.median_ms}
    sheet = f"measured {old.conditions.get('measured', 'at an unknown time')}"

    def find(row: Row) -> list[Published]:
        match = known.get(_key(row))
        return [] if match is None else [_beside(match, row, str(path), sheet)]

    return find


def _key(row: Row) -> tuple[str, ...]:
    return row.suite, row.op, row.label, row.direction, row.dtype, row.cache, row.params.get("study", "")


def _beside(old: Row, row: Row, name: str, sheet: str) -> Published:
    ends = (old.low_ms, old.high_ms, row.low_ms, row.high_ms)
    low, high, own_low, own_high = (end or old.median_ms or 0.0 for end in ends)
    overlap = low <= own_high and own_low <= high
    return Published(
        device=name, sheet=sheet, precision=old.dtype, ms=old.median_ms or 0.0, tflops=old.tflops,
        bus_gb_per_s=old.bus_gb_per_s, footnotes=(_OVERLAP,) if overlap else (),
    )  # fmt: skip
