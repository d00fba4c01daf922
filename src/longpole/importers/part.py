"""What was read from a stretch of a file, before stretches are put together and become a Trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from longpole.importers.codes import Identity
from longpole.importers.kineto_columns import COLUMN_TYPES, TEXT_COLUMNS, Counts
from longpole.importers.kineto_marks import Flows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from longpole.importers.kineto import Reading


class Tables(msgspec.Struct):
    """Everything of a part but its columns."""

    strings: list[str]
    lanes: list[tuple[Identity, Identity]]  # (process, thread)
    thread_names: dict[int, str]  # by row of `lanes`
    collectives: list[tuple[int, int, int, int, int]]
    waits: list[tuple[int, int, int]]
    launch_flows: Flows | None
    gradient_flows: Flows
    counts: Counts
    dropped: int
    seen: bool
    halves: bool  # whether events came as begins and ends, which may lie in two stretches


@dataclass
class Part:
    """Rows in the order of the file; what they point at is in `tables`."""

    columns: dict[str, NDArray[Any]]  # of kineto_columns.COLUMN_TYPES
    memory: NDArray[np.int64]  # 4 rows: ns, bytes, device, total allocated
    tables: Tables


def part_of(reading: Reading) -> Part:
    """What was read, out of the reader, which cannot go on then."""
    spans, marks = reading.spans, reading.marks
    tables = Tables(
        strings=spans.strings.strings(),
        lanes=spans.lanes.keys_seen,
        thread_names=marks.thread_names,
        collectives=spans.collectives,
        waits=spans.waits,
        launch_flows=marks.launch_flows,
        gradient_flows=marks.gradient_flows,
        counts=spans.counts,
        dropped=reading.dropped,
        seen=reading.seen,
        halves=marks.halves,
    )
    memory = np.concatenate([np.empty((4, 0), dtype=np.int64), *marks.memory], axis=1)
    return Part(spans.joined(), memory, tables)


def join(parts: Sequence[Part]) -> Part:
    """One part of stretches in the order of the file; empties the others, so that no column is held twice."""
    if len(parts) == 1:
        return parts[0]
    whole, first_row = _nothing(), 0
    texts: list[NDArray[np.int32]] = []
    lanes: list[NDArray[np.int32]] = []
    rows = {text: row for row, text in enumerate(whole.strings)}
    places: dict[tuple[Identity, Identity], int] = {}
    for part in parts:
        one = part.tables
        texts.append(np.array([*(rows.setdefault(text, len(rows)) for text in one.strings), -1], dtype=np.int32))
        lanes.append(np.array([places.setdefault(key, len(places)) for key in one.lanes], dtype=np.int32))
        _add(whole, one, first_row, texts[-1].tolist(), lanes[-1].tolist())
        first_row += len(part.columns["kind"])
    whole.strings, whole.lanes = list(rows), list(places)
    columns = {name: _joined(name, parts, texts, lanes) for name in COLUMN_TYPES}
    return Part(columns, np.concatenate([part.memory for part in parts], axis=1), whole)


def _nothing() -> Tables:
    return Tables([], [], {}, [], [], Flows(), Flows(), Counts(), 0, seen=False, halves=False)


def _add(whole: Tables, one: Tables, first_row: int, texts: list[int], lanes: list[int]) -> None:
    whole.thread_names.update({lanes[lane]: name for lane, name in one.thread_names.items()})
    for row, operation, group, ranks, size in one.collectives:
        whole.collectives.append((first_row + row, texts[operation], texts[group], ranks, size))
    whole.waits += [(first_row + row, record, stream) for row, record, stream in one.waits]
    if one.launch_flows is None:
        whole.launch_flows = None
    if whole.launch_flows is not None and one.launch_flows is not None:
        whole.launch_flows.extend(one.launch_flows, lanes)
    whole.gradient_flows.extend(one.gradient_flows, lanes)
    whole.counts.extend(one.counts)
    whole.dropped += one.dropped
    whole.seen |= one.seen
    whole.halves |= one.halves


def _joined(
    name: str, parts: Sequence[Part], texts: Sequence[NDArray[np.int32]], lanes: Sequence[NDArray[np.int32]]
) -> NDArray[Any]:
    columns = [part.columns.pop(name) for part in parts]
    if name in TEXT_COLUMNS:
        columns = [number[column] for number, column in zip(texts, columns, strict=True)]
    elif name == "lane":
        columns = [number[column] for number, column in zip(lanes, columns, strict=True)]
    return np.concatenate(columns)
