"""A run of sizes that goes on where an earlier one stopped: what is kept, what is to do, saved after every size.

torch is imported when something runs, so that the command line can list sizes without it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from longpole.bench.results import DECISIVE, Results, Row, differences, load_results, save_results
from longpole.errors import LongpoleError
from longpole.machine.ceilings import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from longpole.bench.suites import Size

    Say = Callable[[str], None]
    Progress = Callable[[int], AbstractContextManager[Callable[[int, int, Size], None]]]

_COLLECTIVE = frozenset({"all_reduce", "collective"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asked for."""

    dtype: str
    device: str
    threads: int | None
    caches: tuple[str, ...]
    budget_s: float | None
    each_s: float
    ranks: tuple[int, ...]
    again: bool
    results: Path | None
    quiet: bool
    check_only: bool = False


def rank() -> int:
    """Under torchrun every rank runs collectives, and the first reports."""
    return int(os.environ.get("RANK", "0") or 0)


def prepare(wanted: Wanted) -> None:
    """Sets the threads asked for; a LongpoleError where there is no torch."""
    try:
        from longpole.bench.conditions import use_threads
    except ImportError as error:
        raise LongpoleError(f"running operations needs torch ({error}); pip install torch") from error
    use_threads(wanted.threads)


def run_session(name: str, sizes: Sequence[Size], wanted: Wanted, say: Say, progress: Progress) -> Results:
    """Rows of all the sizes, kept ones and those measured now; a file measured under other conditions is refused.

    `say` gets a sentence; `progress` makes a context of how many sizes there are, with a callback for each one begun.
    """
    prepare(wanted)
    from longpole.bench.conditions import conditions

    results = Results(conditions(wanted.device))
    path = wanted.results or _kept_at(name, wanted, results)
    keep = name != "one" or wanted.results is not None
    kept = load_results(path) if keep and not wanted.again else None
    if kept is not None:
        unfair = differences(kept, results)
        if unfair:
            raise LongpoleError(f"{path} holds under other conditions ({unfair[0]}); --again forgets it")
        results.rows = kept.rows
    done = {row.key() for row in results.rows if _is_done(row, wanted)}
    todo = [size for size in sizes if not all(_key(size, wanted, cache) in done for cache in _caches(size, wanted))]
    before = f", {len(sizes) - len(todo)} done before" if len(todo) < len(sizes) else ""
    say(f"{len(todo)} size{'' if len(todo) == 1 else 's'}{before}; least work first")
    measured = False
    for rows in _measure(todo, wanted, progress):
        measured = measured or any(row.skipped is None for row in rows)
        fresh = {row.key() for row in rows}
        results.rows = [row for row in results.rows if row.key() not in fresh] + rows
        if keep and rank() == 0:
            save_results(results, path)
    if kept is not None and not measured:
        results.conditions = kept.conditions  # those of the measurements, when they were made
    asked = {_key(size, wanted, cache) for size in sizes for cache in _caches(size, wanted)}
    left = len(sizes) - len({(row.op, row.index) for row in results.rows if row.key() in asked})
    if left:
        say(f"the budget ended with {left} sizes to go; the same command goes on from here")
    return Results(results.conditions, [row for row in results.rows if row.key() in asked])


def _is_done(row: Row, wanted: Wanted) -> bool:
    """A result that was only checked is still to be timed; what did not fit may fit now, or with other ranks."""
    return row.skipped is None and (row.median_ms is not None or wanted.check_only)


def _caches(size: Size, wanted: Wanted) -> tuple[str, ...]:
    return ("hot",) if size.op in _COLLECTIVE else wanted.caches


def _key(size: Size, wanted: Wanted, cache: str) -> tuple[str, str, int, str, str, str]:
    dtype = wanted.dtype
    if size.op in _COLLECTIVE:
        dtype = size.row.get("dtype", "fp32")
    return size.suite, size.op, size.index, size.label, dtype, cache


def _kept_at(name: str, wanted: Wanted, results: Results) -> Path:
    key = "|".join(results.conditions.get(each, "") for each in DECISIVE)
    return cache_folder() / "ops" / f"{name}-{wanted.dtype}-{sha256(key.encode()).hexdigest()[:12]}.json"


def _measure(sizes: Sequence[Size], wanted: Wanted, progress: Progress) -> Iterator[list[Row]]:
    """Collectives after everything else: they need processes of their own."""
    from longpole.bench.ranks import run_collectives
    from longpole.bench.run import Options, run_sizes
    from longpole.bench.timing import Protocol

    plain = [size for size in sizes if size.op not in _COLLECTIVE]
    shared = [size for size in sizes if size.op in _COLLECTIVE]
    options = Options(wanted.dtype, wanted.device, wanted.caches, Protocol(wanted.each_s), wanted.budget_s)
    options = replace(options, check_only=wanted.check_only)
    deadline_s = None if wanted.budget_s is None else time.monotonic() + wanted.budget_s
    with progress(len(plain)) as seen:
        yield from run_sizes(plain, options, seen)
    if shared:
        yield from run_collectives(shared, wanted.ranks, wanted.each_s / 4, deadline_s)
