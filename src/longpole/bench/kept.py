"""Results that a run goes on from: those of earlier runs, and new ones saved as they come."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from longpole.bench.results import DECISIVE, Results, Row, differences, load_results, save_results
from longpole.errors import LongpoleError
from longpole.machine.ceilings import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path


@dataclass(slots=True)
class Kept:
    """Results so far, and the file they are saved to; None: they are kept nowhere."""

    results: Results
    path: Path | None


def rank() -> int:
    """Under torchrun every rank runs collectives, and the first reports."""
    return int(os.environ.get("RANK", "0") or 0)


def open_kept(name: str, dtype: str, conditions: dict[str, str], given: Path | None, *, again: bool) -> Kept:
    """What earlier runs left in the file given, or in the cache under this name and these conditions.

    LongpoleError where the file holds under other conditions, or is no file of results. Nothing is kept of "one"
    size unless a file is given.
    """
    if name == "one" and given is None:
        return Kept(Results(conditions), None)
    path = given or _path_of(name, dtype, conditions)
    old = None if again else load_results(path)
    if old is None:
        return Kept(Results(conditions), path)
    unfair = differences(old, Results(conditions))
    if unfair:
        raise LongpoleError(
            f"{path} holds under other conditions ({unfair[0]}): choose another --results, or forget it with --again"
        )
    return Kept(old, path)


def _path_of(name: str, dtype: str, conditions: dict[str, str]) -> Path:
    key = "|".join(conditions.get(each, "") for each in DECISIVE)
    return cache_folder() / "ops" / f"{name}-{dtype}-{sha256(key.encode()).hexdigest()[:12]}.json"


def save(kept: Kept) -> None:
    """Writes the file, on the first rank; LongpoleError where that cannot be done."""
    if kept.path is not None and rank() == 0:
        save_results(kept.results, kept.path)


def add_each(
    kept: Kept, found: Generator[list[Row]], conditions: dict[str, str], same: Callable[[Row], object] = Row.key
) -> bool:
    """Adds rows as they are measured, in the place of older ones of the same key; whether Ctrl-C ended it.

    Conditions become those of now with the first row that was measured: until then the file says when its own were.
    """
    try:
        for rows in found:
            _add(kept, rows, same)
            if any(row.skipped is None for row in rows):
                kept.results.conditions = conditions
            save(kept)
    except KeyboardInterrupt:
        found.close()
        return True
    return False


def _add(kept: Kept, rows: Sequence[Row], same: Callable[[Row], object]) -> None:
    fresh = {same(row) for row in rows}
    kept.results.rows = [row for row in kept.results.rows if same(row) not in fresh] + list(rows)
