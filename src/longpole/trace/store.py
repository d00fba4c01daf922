"""longpole's own trace file: written as the run goes, readable after `kill -9`.

The file and its history:

    version 1   MAGIC, then records until the end. A record is
                length  uint32, little endian: bytes of the payload
                crc     uint32, CRC-32 of the payload
                payload MessagePack of `Record`: what is new since the record before

A record that is cut or damaged ends the file: everything before it counts, and the reader says so.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from longpole.errors import LongpoleError
from longpole.trace.build import EVENT_COLUMNS, GRADIENT_COLUMNS, SAMPLE_COLUMNS, Piece, TraceBuilder
from longpole.trace.check import check_column, check_info, check_json, check_layers, check_saved, check_steps
from longpole.trace.graph import StepGraph, check_graph
from longpole.trace.memory import MemoryRecord, check_memory
from longpole.trace.trace import Lane, Layer, RunInfo, StepWindow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    from longpole.trace.trace import Trace

MAGIC = b"LONGPOLE-TRACE-1\n"
MOST_BYTES = 1 << 31  # of one record: a damaged length must not make us ask for the whole memory
HEADER = struct.Struct("<II")


class Record(msgspec.Struct, omit_defaults=True):
    """What is new. Columns are little-endian bytes of the types in `longpole.trace.build`."""

    strings: list[str] = []
    lanes: list[Lane] = []
    layers: list[Layer] | None = None  # all of them: the network may grow
    steps: list[StepWindow] = []
    info: RunInfo | None = None
    saved_bytes: dict[int, int] = {}
    graph: StepGraph | None = None
    memory: MemoryRecord | None = None
    pieces: list[dict[str, dict[str, bytes]]] = []


class TraceWriter:
    """Appends to a file what a builder has gathered since the last time.

    Never raises for a full disk: the run matters more. `failed` then says why nothing more is written.
    """

    def __init__(self, path: Path) -> None:
        self.failed: str | None = None
        self._builder_layers: list[Layer] = []
        self._graph: StepGraph | None = None
        self._memory: MemoryRecord | None = None
        self._counts = {"strings": 0, "lanes": 0, "steps": 0, "pieces": 0}
        try:
            self._file: BinaryIO | None = path.open("wb")
            self._file.write(MAGIC)
            self._file.flush()  # else each forked child writes its copy of the buffer when it ends
        except OSError as error:
            raise LongpoleError(f"cannot write {path}: {error.strerror}; choose another place with -o") from error

    def flush(self, builder: TraceBuilder) -> None:
        if self._file is None:
            return
        payload = _packed(self._news(builder))
        try:
            self._file.write(HEADER.pack(len(payload), zlib.crc32(payload)))
            self._file.write(payload)
            self._file.flush()
        except OSError as error:
            self.failed = error.strerror or str(error)
            self.close()

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as error:
                self.failed = error.strerror or str(error)

    def _news(self, builder: TraceBuilder) -> Record:
        strings = builder.intern.strings()
        layers = None if builder.layers == self._builder_layers else list(builder.layers)
        record = Record(
            strings=strings[self._counts["strings"] :],
            lanes=builder.lanes[self._counts["lanes"] :],
            layers=layers,
            steps=builder.steps[self._counts["steps"] :],
            info=builder.info,
            saved_bytes=dict(builder.saved_bytes),
            graph=None if builder.graph is self._graph else builder.graph,
            memory=None if builder.memory is self._memory else builder.memory,
            pieces=[_encoded(piece) for piece in builder.pieces[self._counts["pieces"] :]],
        )
        self._builder_layers = list(builder.layers)
        self._graph = builder.graph
        self._memory = builder.memory
        self._counts = {
            "strings": len(strings),
            "lanes": len(builder.lanes),
            "steps": len(builder.steps),
            "pieces": len(builder.pieces),
        }
        return record


def _packed(record: Record) -> bytes:
    try:
        return msgspec.msgpack.encode(record)
    except UnicodeEncodeError:  # a file name that is no UTF-8 comes with halves of surrogate pairs
        return msgspec.msgpack.encode(_encodable(msgspec.to_builtins(record, builtin_types=(bytes,))))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(part) for key, part in value.items()}
    return [_encodable(part) for part in value] if isinstance(value, (list, tuple)) else value


def is_store(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_trace(path: Path) -> Trace:
    """The trace in one of longpole's own files; a warning in its info says where the file was cut.

    Raises LongpoleError where the file is none of ours or holds nothing.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LongpoleError(f"cannot read {path}: {error.strerror}") from error
    return load(data, str(path))


def load(data: bytes, where: str) -> Trace:
    """The trace in these bytes; `where` they come from is for errors, which are as of `read_trace`."""
    builder = TraceBuilder()
    if not data.startswith(MAGIC):
        raise LongpoleError(f"{where} is not a longpole trace; give the file that `longpole run --trace` wrote")
    position, good = len(MAGIC), 0
    while record := _record_at(data, position):
        found, position = record
        try:
            _apply(builder, found)
        except (KeyError, ValueError, TypeError):
            break
        good += 1
    if not good:
        raise LongpoleError(f"{where} ends before its first record: the run was stopped before it measured a step")
    if position < len(data):
        cut = f"{position:,} of {len(data):,} bytes"
        warning = f"The trace file is cut or damaged after {cut}; what came before is used."
        builder.info = msgspec.structs.replace(builder.info, warnings=(*builder.info.warnings, warning))
    return builder.build()


def dump(trace: Trace) -> bytes:
    """The bytes of a file that holds this trace, in one record. Memory events and collectives are left out."""
    events = dict(trace.events.columns())
    for name, values in (("layer", trace.calls.layer), ("last_sequence", trace.calls.last)):
        events[name] = np.full(len(trace.events), -1, dtype=np.int64)
        events[name][trace.calls.row] = values
    tables = (trace.samples, trace.gradients)
    samples, gradients = ({f.name: getattr(table, f.name) for f in fields(table)} for table in tables)
    record = Record(
        strings=list(trace.strings),
        lanes=list(trace.lanes),
        layers=list(trace.layers),
        steps=list(trace.steps),
        info=trace.info,
        saved_bytes=dict(trace.saved_bytes),
        graph=trace.graph,
        memory=trace.memory_record,
        pieces=[_encoded(Piece(events, samples, gradients))],
    )
    payload = _packed(record)
    return MAGIC + HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def _record_at(data: bytes, position: int) -> tuple[Record, int] | None:
    if position + HEADER.size > len(data):
        return None
    length, crc = HEADER.unpack_from(data, position)
    start = position + HEADER.size
    payload = data[start : start + length]
    if length > MOST_BYTES or len(payload) < length or zlib.crc32(payload) != crc:
        return None
    try:
        return msgspec.msgpack.decode(payload, type=Record), start + length
    except msgspec.MsgspecError:
        return None


def _apply(builder: TraceBuilder, record: Record) -> None:
    """Raises ValueError where something in the record is impossible; then nothing of it is taken."""
    layers = builder.layers if record.layers is None else record.layers
    check_layers(layers, len(builder.layers))
    check_steps(record.steps)
    check_saved(record.saved_bytes, len(layers))
    check_graph(record.graph or builder.graph or StepGraph(), len(layers))
    check_memory(record.memory or MemoryRecord(), len(layers))
    check_info(record.info or builder.info)
    for text in record.strings:
        builder.intern(text)
    strings = builder.intern.strings()
    lanes = [*builder.lanes, *record.lanes]
    pieces = [_decoded(piece, strings, len(lanes), len(layers)) for piece in record.pieces]
    builder.lanes, builder.layers, builder.info = lanes, layers, record.info or builder.info
    builder.steps.extend(record.steps)
    builder.saved_bytes.update(record.saved_bytes)
    builder.graph = record.graph or builder.graph
    builder.memory = record.memory or builder.memory
    builder.pieces.extend(pieces)


TABLES: Mapping[str, Mapping[str, np.dtype[Any]]] = {
    "events": EVENT_COLUMNS,
    "samples": SAMPLE_COLUMNS,
    "gradients": GRADIENT_COLUMNS,
}
REQUIRED: Mapping[str, Set[str]] = {
    "events": {"start_ns", "duration_ns", "name", "kind", "lane"},
    "samples": SAMPLE_COLUMNS.keys(),
    "gradients": GRADIENT_COLUMNS.keys(),
}
JSON_COLUMNS = ("shapes", "dtypes", "concrete")
TEXT_COLUMNS = ("stack", "name", "shapes", "dtypes", "concrete", "loop_line", "site", "op")


def _encoded(piece: Piece) -> dict[str, dict[str, bytes]]:
    return {
        table: {name: _little(column, TABLES[table][name]) for name, column in getattr(piece, table).items()}
        for table in TABLES
    }


def _little(column: NDArray[Any], dtype: np.dtype[Any]) -> bytes:
    return np.asarray(column, dtype=dtype.newbyteorder("<")).tobytes()


def _decoded(piece: Mapping[str, Mapping[str, bytes]], strings: Sequence[str], lanes: int, layers: int) -> Piece:
    """Raises ValueError where a number points outside its table, KeyError for a table or column not known."""
    sizes = {**dict.fromkeys(TEXT_COLUMNS, len(strings)), "lane": lanes, "layer": layers}
    tables: dict[str, dict[str, NDArray[Any]]] = {}
    for table, found in piece.items():
        dtypes = TABLES[table]
        columns = {
            name: np.frombuffer(data, dtype=dtypes[name].newbyteorder("<")).astype(dtypes[name])
            for name, data in found.items()
        }
        if len({len(column) for column in columns.values()}) > 1 or not (
            REQUIRED[table] <= columns.keys() or not columns
        ):
            raise ValueError(f"columns of {table} do not fit together")
        for name, column in columns.items():
            check_column(name, column, sizes.get(name))
        for name in columns.keys() & set(JSON_COLUMNS):
            known: list[int] = np.unique(columns[name][columns[name] >= 0]).tolist()
            for text in known:
                check_json(name, strings[text])
        tables[table] = columns
    return Piece(*(tables.get(table, {}) for table in TABLES))
