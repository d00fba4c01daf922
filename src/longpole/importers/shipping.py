"""A Trace or a Part as one block of bytes between processes of longpole: a header, then arrays, aligned, as they are.

Not a file format: both ends are the same version on the same machine. The reader's arrays are views of the block.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from longpole.importers.kineto_columns import COLUMN_TYPES
from longpole.importers.part import Part, Tables
from longpole.trace import (
    Collectives,
    EventTable,
    EventWaits,
    Lane,
    Layer,
    LayerCalls,
    MemoryEvents,
    RunInfo,
    Samples,
    StepWindow,
)
from longpole.trace import Trace as LongpoleTrace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

TABLES = {
    "events": EventTable,
    "calls": LayerCalls,
    "samples": Samples,
    "memory": MemoryEvents,
    "collectives": Collectives,
    "waits": EventWaits,
}
ALIGNMENT = 64
LENGTH_BYTES = 8


class Header(msgspec.Struct, array_like=True):
    """Everything of a Trace but its arrays, and where these are."""

    strings: list[str]
    lanes: list[Lane]
    info: RunInfo
    layers: list[Layer]
    steps: list[StepWindow]
    arrays: list[tuple[str, str, str, int]]  # (table, column, dtype, length), in order


def write_trace(trace: LongpoleTrace, file: BinaryIO) -> None:
    """Writes the block from the file's position on."""
    arrays = list(_arrays(trace))
    header = Header(
        strings=list(trace.strings),
        lanes=list(trace.lanes),
        info=trace.info,
        layers=list(trace.layers),
        steps=list(trace.steps),
        arrays=[(table, column, array.dtype.str, len(array)) for table, column, array in arrays],
    )
    _write(msgspec.msgpack.encode(header), [array for _, _, array in arrays], file)


def read_trace(block: Any) -> LongpoleTrace:
    """The Trace in `block` (bytes or an mmap); its arrays keep the block alive."""
    packed, place = _packed(block)
    header = msgspec.msgpack.decode(packed, type=Header)
    columns: dict[str, dict[str, NDArray[Any]]] = {table: {} for table in TABLES}
    found = _arrays_at(block, place, [(code, length) for _, _, code, length in header.arrays])
    for (table, column, _, _), array in zip(header.arrays, found, strict=True):
        columns[table][column] = array
    tables: dict[str, Any] = {name: kind(**columns[name]) for name, kind in TABLES.items()}
    return LongpoleTrace(
        strings=header.strings,
        lanes=header.lanes,
        info=header.info,
        layers=header.layers,
        steps=header.steps,
        **tables,
    )


def write_part(part: Part, file: BinaryIO) -> None:
    """Writes the block from the file's position on. Raises OverflowError where an id is beyond 64 bits."""
    packed = msgspec.msgpack.encode((len(part.columns["kind"]), part.memory.shape[1], part.tables))
    _write(packed, [*(part.columns[name] for name in COLUMN_TYPES), part.memory], file)


def read_part(block: Any) -> Part:
    """The Part in `block` (bytes or an mmap); its arrays keep the block alive."""
    packed, place = _packed(block)
    rows, marks, tables = msgspec.msgpack.decode(packed, type=tuple[int, int, Tables])
    kinds = [(np.dtype(kind).str, rows) for kind in COLUMN_TYPES.values()]
    *columns, memory = _arrays_at(block, place, [*kinds, (np.dtype(np.int64).str, 4 * marks)])
    return Part(dict(zip(COLUMN_TYPES, columns, strict=True)), memory.reshape(4, marks), tables)


def _write(packed: bytes, arrays: Sequence[NDArray[Any]], file: BinaryIO) -> None:
    file.write(len(packed).to_bytes(LENGTH_BYTES, "little"))
    file.write(packed)
    place = LENGTH_BYTES + len(packed)
    for array in arrays:
        file.write(b"\0" * (-place % ALIGNMENT))
        place += -place % ALIGNMENT
        file.write(np.ascontiguousarray(array).data)
        place += array.nbytes
    file.flush()


def _packed(block: Any) -> tuple[memoryview, int]:
    """The header's bytes, and where they end."""
    view = memoryview(block)
    end = LENGTH_BYTES + int.from_bytes(view[:LENGTH_BYTES], "little")
    return view[LENGTH_BYTES:end], end


def _arrays_at(block: Any, place: int, kinds: Sequence[tuple[str, int]]) -> Iterator[NDArray[Any]]:
    """Arrays of these (dtype, length) that lie one after the other from `place` on."""
    for code, length in kinds:
        place += -place % ALIGNMENT
        array = np.frombuffer(block, dtype=np.dtype(code), count=length, offset=place)
        yield array
        place += array.nbytes


def _arrays(trace: LongpoleTrace) -> Iterator[tuple[str, str, NDArray[Any]]]:
    for table in TABLES:
        held = getattr(trace, table)
        for item in fields(held):
            yield table, item.name, getattr(held, item.name)
