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
    from longpole.bench.conditions import conditions, torch_threads
    from longpole.bench.mine import NEVER, bound_of, in_place, study_key, together

    study, now = study_key(ops), conditions("cpu")
    kept = open_kept(f"mine-{study}", wanted.dtype, now, wanted.results, again=wanted.again)
    merged = together(ops)
    caches = wanted.caches[:1] if wanted.check_only else wanted.caches
    done = {_key(row) for row in kept.results.rows if is_done(row, wanted)}
    never = {(row.op, row.label) for row in kept.results.rows if row.note == NEVER and row.params.get("study") == study}
    chosen = [op for op in merged if not names or op.op in names]
    todo = [
        op
        for op in chosen
        if any(_key_of(op, study, cache) not in done for cache in caches) and _key_of(op, study, "")[1:3] not in never
    ]
    say(f"{to_do(len(todo), len(chosen), 'operation')}; those that take most first")
    if todo:
        save(kept)  # a place that cannot be written is told before anything is measured
    begun: list[str] = []
    interrupted = add_each(kept, _measure(ops, todo, wanted, progress, begun), now, _key)
    known, ceilings = {_key(row): row for row in kept.results.rows}, load_ceilings(threads=torch_threads())
    rows: list[Row] = []
    for place, op in enumerate(merged):
        if names and op.op not in names:
            continue
        for row in (known.get(_key_of(op, study, cache)) for cache in caches):
            if row is not None:
                in_place(row, place, op)
                row.bound_ms = bound_of(row, ceilings)
                rows.append(row)
    return Outcome(Results(kept.results.conditions, rows), len(todo) - len(begun), interrupted, kept=True)


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
