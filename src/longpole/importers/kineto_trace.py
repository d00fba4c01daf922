"""What was read of a Chrome JSON or Perfetto file, made a Trace: numbered, joined to launches, sorted, nested."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.importers.foreign import refuse_foreign
from longpole.importers.kineto_columns import TEXT_COLUMNS
from longpole.importers.kineto_kinds import lane_sort
from longpole.importers.launches import launches, sequence_from_arrows
from longpole.importers.run_info import run_info
from longpole.trace import Collectives, EventWaits, Kind, Lane, MemoryEvents, Trace, make_table, nest, table_order

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from longpole.importers.codes import Identity
    from longpole.importers.json_events import Outside
    from longpole.importers.part import Part, Tables

HOST_KINDS = (Kind.OP, Kind.RUNTIME, Kind.ANNOTATION, Kind.PYTHON, Kind.COLLECTIVE)
SORTS = 8  # of lanes of one thread, at most


def trace_of(path: Path, part: Part, outside: Outside, kind: str = "kineto") -> Trace:
    """The Trace of a whole file, whose columns are used up; `kind` is the RunInfo's source.

    Strings and lanes are numbered by what they are, not by who read them first: a file read in stretches is the
    file read at once.
    """
    columns, tables = part.columns, part.tables
    refuse_foreign(path, columns["kind"], tables.counts.unknown, outside.fields)
    columns["launch"] = launches(columns, tables.launch_flows)
    sequence_from_arrows(columns, tables.gradient_flows)
    columns["lane"], lanes = _lanes(columns["kind"], columns["lane"], tables)
    strings, text_rows = _sorted_strings(tables.strings, columns)
    no_correlation = columns["correlation"] < 0
    columns["correlation"][no_correlation] = columns.pop("external")[no_correlation]
    order = table_order(columns["start_ns"], columns["duration_ns"])
    events = make_table(columns, order)
    on_host = events.rows_of(*HOST_KINDS)
    parent = nest(events.start_ns, events.duration_ns, events.lane, on_host, in_order=True)
    devices = sorted({lane.device for lane in lanes if lane.kind == "stream"})
    return Trace(
        events=replace(events, parent=parent),
        strings=strings,
        lanes=lanes,
        info=run_info(path, kind, outside.fields, devices, _warnings(tables, len(events), outside)),
        memory=_memory(part.memory),
        collectives=_collectives(tables.collectives, order, text_rows),
        waits=_waits(tables.waits, order),
    )


def _sorted_strings(strings: list[str], columns: dict[str, NDArray[Any]]) -> tuple[list[str], NDArray[np.int32]]:
    """The strings in order, and the new row of each old one; columns are changed in place."""
    order = sorted(range(len(strings)), key=strings.__getitem__)
    rows = np.full(len(strings) + 1, -1, dtype=np.int32)  # the last one is what -1 becomes
    rows[order] = np.arange(len(strings), dtype=np.int32)
    for name in TEXT_COLUMNS:
        columns[name] = rows[columns[name]]
    return [strings[row] for row in order], rows


def _warnings(tables: Tables, rows: int, outside: Outside) -> list[str]:
    counts = tables.counts
    notes = list(outside.notes)
    if not rows:
        notes.append("The trace has no events with a duration.")
    if tables.dropped:
        notes.append(f"{tables.dropped} events could not be decoded and were left out.")
    if counts.unusable:
        notes.append(f"{counts.unusable} events have times that no clock gives and were left out.")
    if counts.negative:
        notes.append(f"{counts.negative} events have a negative duration, which was taken as zero.")
    for category, count in counts.unknown.items():
        notes.append(
            f"{count} events have the unknown category {category!r}: they count as neither host nor device work."
        )
    return notes


def _lanes(kind: NDArray[np.uint8], code: NDArray[np.int32], tables: Tables) -> tuple[NDArray[np.int32], list[Lane]]:
    """A lane for each thread, stream, and what is drawn beside them, from (process, thread) and sort of event.

    They come in the order in which the file first has an event of each.
    """
    sorts = np.array([lane_sort(value) for value in range(len(Kind))], dtype=np.int64)
    both = code.astype(np.int64) * SORTS + sorts[kind]
    first = np.full(len(tables.lanes) * SORTS, len(both), dtype=np.int64)
    first[both[::-1]] = np.arange(len(both), dtype=np.int64)[::-1]  # of several writes the last stays
    found = np.flatnonzero(first < len(both))
    found = found[np.argsort(first[found])]
    number = np.full(len(first), -1, dtype=np.int32)
    number[found] = np.arange(len(found), dtype=np.int32)
    lanes = [_lane(one % SORTS, one // SORTS, tables.lanes, tables.thread_names) for one in found.tolist()]
    return number[both], lanes


def _lane(sort: int, code: int, keys: list[tuple[Identity, Identity]], names: dict[int, str]) -> Lane:
    process, thread = keys[code]
    named = names.get(code)
    numbers = {
        "process": process if isinstance(process, int) else -1,
        "thread": thread if isinstance(thread, int) else -1,
    }
    if sort == 0:
        return Lane(name=named or f"thread {thread}", kind="host", **numbers)
    stream = f"stream {thread}"
    if sort == 1:
        return Lane(name=stream, kind="stream", device=numbers["process"], **numbers)
    what = {2: f"waits of {stream}", 3: f"annotations of {stream}"}.get(sort, named or f"{process} {thread}")
    return Lane(name=what, kind="async", device=numbers["process"] if sort in (2, 3) else -1, **numbers)


def _memory(table: NDArray[np.int64]) -> MemoryEvents:
    time, size, device, total = table[:, np.argsort(table[0], kind="stable")]
    return MemoryEvents(time, size, device.astype(np.int32), total)


def _waits(found: Sequence[tuple[int, int, int]], order: NDArray[np.intp]) -> EventWaits:
    table = np.array([row for row in found if max(map(abs, row)) < 2**63], dtype=np.int64).reshape(-1, 3)
    table = _in_order(table, order)
    return EventWaits(table[:, 0].astype(np.int32), table[:, 1].copy(), table[:, 2].copy())


def _collectives(
    found: Sequence[tuple[int, int, int, int, int]], order: NDArray[np.intp], text_rows: NDArray[np.int32]
) -> Collectives:
    table = _in_order(np.array(found, dtype=np.int64).reshape(-1, 5), order)
    row, operation, group, ranks = (table[:, i].astype(np.int32) for i in range(4))
    return Collectives(row, text_rows[operation], text_rows[group], ranks, message_bytes=table[:, 4].copy())


def _in_order(table: NDArray[np.int64], order: NDArray[np.intp]) -> NDArray[np.int64]:
    """Rows of a table whose first column is a row of the file, by the row that it becomes."""
    if not len(table):
        return table
    moved = np.empty(len(order), dtype=np.int64)
    moved[order] = np.arange(len(order))
    table[:, 0] = moved[table[:, 0]]
    return table[np.argsort(table[:, 0], kind="stable")]
