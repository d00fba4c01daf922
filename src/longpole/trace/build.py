"""A trace in the making: rows arrive in any order, in pieces, and become one sorted, nested table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.trace.events import DTYPES, make_table, nest
from longpole.trace.kinds import DEVICE_WORK, Kind
from longpole.trace.trace import GradientOps, Interner, Lane, Layer, LayerCalls, RunInfo, Samples, StepWindow, Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.trace.events import EventTable
    from longpole.trace.graph import StepGraph
    from longpole.trace.memory import MemoryRecord

    Columns = Mapping[str, NDArray[Any]]

NESTED = (Kind.OP, Kind.RUNTIME, Kind.ANNOTATION, Kind.PYTHON, Kind.PHASE, Kind.LAYER, Kind.COLLECTIVE)
# Events carry these beside the columns of the table; LAYER rows only.
CALL_COLUMNS = {"layer": np.dtype(np.int32), "last_sequence": np.dtype(np.int64)}
EVENT_COLUMNS: Mapping[str, np.dtype[Any]] = {**DTYPES, **CALL_COLUMNS}
SAMPLE_COLUMNS: Mapping[str, np.dtype[Any]] = {
    "time_ns": np.dtype(np.int64),
    "loop_line": np.dtype(np.int32),
    "site": np.dtype(np.int32),
    "flow": np.dtype(np.uint8),
}
GRADIENT_COLUMNS: Mapping[str, np.dtype[Any]] = {
    "sequence": np.dtype(np.int64),
    "op": np.dtype(np.int32),
    "ordinal": np.dtype(np.int32),
    "role": np.dtype(np.uint8),
    "weight_share": np.dtype(np.float64),
}


@dataclass(slots=True)
class Piece:
    """Rows that belong together, as they were recorded. Strings are rows of the builder's interner."""

    events: Columns
    samples: Columns
    gradients: Columns


def events_piece(columns: Columns) -> Piece:
    return Piece(columns, {}, {})


class TraceBuilder:
    """Collects pieces; `build` may be called at any time and again later."""

    def __init__(self) -> None:
        self.intern = Interner()
        self.lanes: list[Lane] = []
        self.layers: list[Layer] = []
        self.steps: list[StepWindow] = []
        self.saved_bytes: dict[int, int] = {}
        self.graph: StepGraph | None = None
        self.memory: MemoryRecord | None = None
        self.info = RunInfo()
        self.pieces: list[Piece] = []

    def lane(self, lane: Lane) -> int:
        """The row of this lane, added where it is new."""
        if lane not in self.lanes:
            self.lanes.append(lane)
        return self.lanes.index(lane)

    def add(self, piece: Piece) -> None:
        self.pieces.append(piece)

    def build(self) -> Trace:
        columns = _joined([p.events for p in self.pieces], EVENT_COLUMNS)
        columns["launch"] = _launches(columns)
        order = np.lexsort((-columns["duration_ns"], columns["start_ns"]))
        # In the order of time already, but pointers count rows in the order of recording: make_table moves both.
        table = make_table({name: columns[name] for name in DTYPES if name != "parent"})
        return Trace(
            events=_nested(table),
            strings=self.intern.strings(),
            lanes=tuple(self.lanes),
            info=self.info,
            layers=tuple(self.layers),
            steps=tuple(self.steps),
            calls=_calls(columns, order),
            samples=Samples(**_joined([p.samples for p in self.pieces], SAMPLE_COLUMNS)),
            gradients=GradientOps(**_joined([p.gradients for p in self.pieces], GRADIENT_COLUMNS)),
            saved_bytes=dict(self.saved_bytes),
            graph=self.graph,
            memory_record=self.memory,
        )


def _joined(parts: Sequence[Columns], dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, NDArray[Any]]:
    """Parts one after the other; a column that a part lacks is -1 there."""
    filled = [part for part in parts if part]
    joined: dict[str, NDArray[Any]] = {}
    for name, dtype in dtypes.items():
        pieces = [_column(part, name, dtype) for part in filled]
        joined[name] = np.concatenate(pieces) if pieces else np.empty(0, dtype)
    return joined


def _column(part: Columns, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    if name in part:
        return np.asarray(part[name], dtype=dtype)
    return np.full(len(next(iter(part.values()))), -1).astype(dtype)


def _launches(columns: Columns) -> NDArray[np.int32]:
    """For device events the row of the runtime call with the same correlation id; -1 where there is none."""
    kind, correlation = columns["kind"], columns["correlation"]
    calls = np.flatnonzero((kind == Kind.RUNTIME) & (correlation >= 0))
    launch = np.full(len(kind), -1, dtype=np.int32)
    if not len(calls):
        return launch
    calls = calls[np.argsort(correlation[calls], kind="stable")]
    device = np.flatnonzero(np.isin(kind, DEVICE_WORK) & (correlation >= 0))
    at = np.minimum(np.searchsorted(correlation[calls], correlation[device]), len(calls) - 1)
    matches = correlation[calls[at]] == correlation[device]
    launch[device[matches]] = calls[at[matches]]
    return launch


def _nested(table: EventTable) -> EventTable:
    parent = nest(table.start_ns, table.duration_ns, table.lane, table.rows_of(*NESTED))
    return replace(table, parent=parent)


def _calls(columns: Columns, order: NDArray[np.intp]) -> LayerCalls:
    rows = np.flatnonzero(columns["kind"][order] == Kind.LAYER)
    recorded = order[rows]
    return LayerCalls(
        row=rows.astype(np.int32),
        layer=columns["layer"][recorded],
        first=columns["sequence"][recorded],
        last=columns["last_sequence"][recorded],
    )
