"""A run of sizes that goes on where an earlier one stopped: what is kept, what is to do, saved after every size.

torch is imported when something runs, so that the command line can list sizes without it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from longpole.bench.kept import add_each, open_kept, save
from longpole.bench.results import Results, Row
from longpole.errors import LongpoleError
from longpole.machine import load_ceilings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from longpole.bench.suites import Size

    Say = Callable[[str], None]
    Progress = Callable[[int], AbstractContextManager[Callable[[int, int, str], None]]]

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rows of all that was asked for and is known, how many sizes are still to do, and whether Ctrl-C ended it."""

    results: Results
    left: int
    interrupted: bool
    kept: bool  # in a file, from which the next run goes on


def prepare(wanted: Wanted) -> None:
    """Sets the threads asked for; a LongpoleError where there is no torch."""
    try:
        from longpole.bench.conditions import use_threads
    except ImportError as error:
        raise LongpoleError(f"running operations needs torch ({error}); pip install torch") from error
    use_threads(wanted.threads)


def run_session(name: str, sizes: Sequence[Size], wanted: Wanted, say: Say, progress: Progress) -> Outcome:
    """Rows of all the sizes, kept ones and those measured now; a file measured under other conditions is refused.

    `say` gets a sentence; `progress` makes a context of how many sizes there are, with a callback for each one begun.
    """
    prepare(wanted)
    from longpole.bench.conditions import conditions, torch_threads
    from longpole.bench.run import bound_of

    now = conditions(wanted.device)
    kept = open_kept(name, wanted.dtype, now, wanted.results, again=wanted.again)
    done = {row.key() for row in kept.results.rows if is_done(row, wanted)}
    todo = [size for size in sizes if not all(_key(size, wanted, cache) in done for cache in _caches(size, wanted))]
    say(f"{to_do(len(todo), len(sizes), 'size')}; least work first")
    if todo:
        save(kept)  # a place that cannot be written is told before anything is measured
    begun: set[tuple[str, int]] = set()
    interrupted = add_each(kept, _noted(_measure(todo, wanted, progress), begun), now)
    asked = {_key(size, wanted, cache) for size in sizes for cache in _caches(size, wanted)}
    rows = [row for row in kept.results.rows if row.key() in asked]
    ceilings = load_ceilings(threads=torch_threads(), device=wanted.device)
    for row in rows:  # those measured before the ceilings were, or were better known, too
        row.bound_ms = bound_of(row, ceilings)
    return Outcome(Results(kept.results.conditions, rows), len(todo) - len(begun), interrupted, kept.path is not None)


def to_do(count: int, of: int, what: str) -> str:
    """ "3 sizes, 2 done before"."""
    before = f", {of - count} done before" if count < of else ""
    return f"{count} {what}{'' if count == 1 else 's'}{before}"


def is_done(row: Row, wanted: Wanted) -> bool:
    """A result that was only checked is still to be timed; what did not fit may fit now, or with other ranks."""
    return row.skipped is None and (row.median_ms is not None or wanted.check_only)


def _caches(size: Size, wanted: Wanted) -> tuple[str, ...]:
    if wanted.check_only:  # a result is the same from any cache
        return wanted.caches[:1]
    return ("hot",) if size.op in _COLLECTIVE else wanted.caches


def _key(size: Size, wanted: Wanted, cache: str) -> tuple[str, str, int, str, str, str]:
    dtype = wanted.dtype
    if size.op in _COLLECTIVE:
        dtype = size.row.get("dtype", "fp32")
    return size.suite, size.op, size.index, size.label, dtype, cache


def _noted(found: Generator[list[Row]], begun: set[tuple[str, int]]) -> Generator[list[Row]]:
    for rows in found:
        begun.update((row.op, row.index) for row in rows)
        yield rows


def _measure(sizes: Sequence[Size], wanted: Wanted, progress: Progress) -> Generator[list[Row]]:
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
        yield from run_sizes(plain, options, lambda done, of, size: seen(done, of, f"{size.op} {size.label}"))
    if shared:
        yield from run_collectives(shared, wanted.ranks, wanted.each_s / 4, deadline_s)
