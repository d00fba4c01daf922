"""A run of one's own network's operations that goes on where an earlier one stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.bench.kept import add_each, open_kept, save
from longpole.bench.results import Results
from longpole.bench.session import Outcome, is_done, prepare, to_do
from longpole.errors import LongpoleError
from longpole.machine import load_ceilings

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from longpole.bench.mine import StudyOp
    from longpole.bench.results import Row
    from longpole.bench.session import Progress, Say, Wanted


def run_mine_session(
    ops: Sequence[StudyOp], names: Sequence[str], wanted: Wanted, say: Say, progress: Progress
) -> Outcome:
    """Rows of the operations of a study, of those only the ones named; what is known already is not measured again.

    A network is known by its operations and their shapes: times alone hold for every study of it, and the times in
    place are those of this one.
    """
    if wanted.device != "cpu" or wanted.dtype != "fp32":
        raise LongpoleError("operations of a study run on the CPU in fp32; leave --device and --dtype out")
    prepare(wanted)
    from longpole.bench.conditions import conditions
    from longpole.bench.mine import study_key, together

    study, now = study_key(ops), conditions("cpu")
    kept = open_kept(f"mine-{study}", wanted.dtype, now, wanted.results, again=wanted.again)
    chosen = [(place, op) for place, op in enumerate(together(ops)) if not names or op.op in names]
    caches = wanted.caches[:1] if wanted.check_only else wanted.caches
    todo = _still_to_do([op for _, op in chosen], study, caches, kept.results.rows, wanted)
    say(f"{to_do(len(todo), len(chosen), 'operation')}; those that take most first")
    if todo:
        save(kept)  # a place that cannot be written is told before anything is measured
    begun: list[str] = []
    interrupted = add_each(kept, _measure(ops, todo, wanted, progress, begun), now, _key)
    known = {_key(row): row for row in kept.results.rows}
    found = [(place, op, known.get(_key_of(op, study, cache))) for place, op in chosen for cache in caches]
    rows = _of_this_study([(place, op, row) for place, op, row in found if row is not None])
    return Outcome(Results(kept.results.conditions, rows), len(todo) - len(begun), interrupted, kept=True)


def _still_to_do(
    ops: Sequence[StudyOp], study: str, caches: Sequence[str], rows: Sequence[Row], wanted: Wanted
) -> list[StudyOp]:
    """Those without a result from each cache, less those that can have none."""
    from longpole.bench.mine import NEVER

    done = {_key(row) for row in rows if is_done(row, wanted)}
    never = {_key(row)[:-1] for row in rows if row.note == NEVER}
    keys = [[_key_of(op, study, cache) for cache in caches] for op in ops]
    return [
        op
        for op, each in zip(ops, keys, strict=True)
        if not done.issuperset(each) and each[0][:-1] not in never  # the cache, which is last, does not matter there
    ]


def _of_this_study(found: Sequence[tuple[int, StudyOp, Row]]) -> list[Row]:
    """Rows with what the study says of them, its place for them included, and with bounds as they are known now."""
    from longpole.bench.conditions import torch_threads
    from longpole.bench.mine import bound_of, in_place

    ceilings = load_ceilings(threads=torch_threads())
    for place, op, row in found:
        in_place(row, place, op)
        row.bound_ms = bound_of(row, ceilings)
    return [row for _, _, row in found]


def _measure(
    ops: Sequence[StudyOp], todo: Sequence[StudyOp], wanted: Wanted, progress: Progress, begun: list[str]
) -> Generator[list[Row]]:
    from longpole.bench.conditions import torch_threads
    from longpole.bench.mine import How, run_mine
    from longpole.bench.timing import Protocol

    ceilings = load_ceilings(threads=torch_threads())
    how = How(Protocol(wanted.each_s), ceilings, wanted.caches, wanted.budget_s, wanted.check_only)
    with progress(len(todo)) as seen:
        for rows in run_mine(ops, todo, how, seen):
            begun.append(rows[0].op)
            yield rows


def _key(row: Row) -> tuple[str, str, str, str, str]:
    """What it is; its index is its place among all by time, which is another in every study."""
    return row.suite, row.op, row.label, row.params.get("study", ""), row.cache


def _key_of(op: StudyOp, study: str, cache: str) -> tuple[str, str, str, str, str]:
    return "mine", op.op, op.shapes or "shapes not recorded", study, cache
