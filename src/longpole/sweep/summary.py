"""From the runs of a sweep to its figures: one fit over batches for each number of threads, and the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.sweep.fits import fit_batches, fit_threads
from longpole.sweep.lines import weights_of
from longpole.sweep.result import BatchResult, BatchRow, ThreadResult, ThreadRow
from longpole.sweep.sentences import sentences_of, warnings_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from longpole.analysis.serial_chain import SerialChain
    from longpole.sweep.result import Sweep, SweepRun

TABLES = {"phase": "phases", "op_class": "op_classes", "layer": "layers"}
LEAST_SHARE = 1e-4  # of the step: smaller layers are told as one
SMALLER = "(smaller)"


def summarise(sweep: Sweep) -> Sweep:
    """The sweep with everything filled in that follows from its runs."""
    runs = [run for run in sweep.runs if run.step_ms]
    sweep.by_batch, sweep.by_threads, sweep.serial_chain = by_batch(runs), by_threads(runs), chain_of(runs)
    sweep.sentences = sentences_of(sweep)
    sweep.warnings = warnings_of(sweep)
    return sweep


def by_batch(runs: Sequence[SweepRun]) -> list[BatchResult]:
    """A result for each number of threads at which more than one batch ran."""
    found: list[BatchResult] = []
    for threads in _different(run.threads for run in runs):
        here = [run for run in runs if run.threads == threads and run.batch is not None]
        batches = [float(run.batch or 0) for run in here]
        step = [run.step_ms or 0.0 for run in here]
        whole = fit_batches(batches, step)
        if whole is None:
            continue
        weights = weights_of(batches, step)
        rows: list[BatchRow] = []
        for kind, name, values in [("step", "step", step), *_parts(here)]:
            part = fit_batches(batches, values, weights)
            if part is not None:
                terms = (part.fixed_ms, part.per_sample_ms, part.off_line)
                rows.append(BatchRow(kind, name, sum(values) / len(values), *terms))
        found.append(BatchResult(threads, rows, whole.enough))
    return found


def by_threads(runs: Sequence[SweepRun]) -> list[ThreadResult]:
    """A result for each batch at which more than one number of threads ran."""
    found: list[ThreadResult] = []
    for batch in _different(run.batch for run in runs):
        here = [run for run in runs if run.batch == batch and run.threads is not None]
        threads = [float(run.threads or 0) for run in here]
        step = [run.step_ms or 0.0 for run in here]
        whole = fit_threads(threads, step)
        if whole is None:
            continue
        weights = weights_of(threads, step)
        rows: list[ThreadRow] = []
        for kind, name, values in [("step", "step", step), *_parts(here, layers=False)]:
            part = fit_threads(threads, values, weights)
            if part is not None:
                terms = (part.serial_ms, part.parallel_ms, part.serial_share, part.gained, part.limit)
                rows.append(ThreadRow(kind, name, sum(values) / len(values), *terms))
        found.append(ThreadResult(batch, round(max(threads)), rows))
    return found


def chain_of(runs: Sequence[SweepRun]) -> SerialChain | None:
    """The chain of the largest batch on the fewest threads, where a layer's time is its work."""
    known = [run for run in runs if run.serial_chain is not None]
    chosen = max(known, key=lambda run: (run.batch or 0, -(run.threads or 0)), default=None)
    return chosen.serial_chain if chosen is not None else None


def _different(values: Iterator[int | None]) -> list[int | None]:
    return sorted(set(values), key=lambda value: value or 0)


def _parts(runs: Sequence[SweepRun], *, layers: bool = True) -> Iterator[tuple[str, str, list[float]]]:
    """Kind and name of each part with its time in each run: 0 where a run has none of it."""
    for kind, table in TABLES.items():
        if kind == "layer" and not layers:
            continue
        tables: list[dict[str, float]] = [getattr(run, table) for run in runs]
        names = list(dict.fromkeys(name for found in tables for name in found))
        columns = {name: [found.get(name, 0.0) for found in tables] for name in names}
        if kind == "layer":
            columns = _without_small(columns)
        for name, values in sorted(columns.items(), key=lambda column: -sum(column[1])):
            yield kind, name, values


def _without_small(columns: dict[str, list[float]]) -> dict[str, list[float]]:
    total = sum(map(sum, columns.values()))
    small = [name for name, values in columns.items() if sum(values) < LEAST_SHARE * total]
    kept = {name: values for name, values in columns.items() if name not in small}
    if small:
        kept[SMALLER] = [sum(parts) for parts in zip(*(columns[name] for name in small), strict=True)]
    return kept
