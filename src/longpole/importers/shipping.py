"""A Trace as one block of bytes between processes of longpole: a header, then its arrays, aligned, as they are.

Not a file format: both ends are the same version on the same machine. The reader's arrays are views of the block.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

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
    from collections.abc import Iterator
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
    packed = msgspec.msgpack.encode(header)
    file.write(len(packed).to_bytes(LENGTH_BYTES, "little"))
    file.write(packed)
    place = LENGTH_BYTES + len(packed)
    for _, _, array in arrays:
        file.write(b"\0" * (-place % ALIGNMENT))
        place += -place % ALIGNMENT
        file.write(np.ascontiguousarray(array).data)
        place += array.nbytes
    file.flush()


def read_trace(block: Any) -> LongpoleTrace:
    """The Trace in `block` (bytes or an mmap); its arrays keep the block alive."""
    view = memoryview(block)
    size = int.from_bytes(view[:LENGTH_BYTES], "little")
    header = msgspec.msgpack.decode(view[LENGTH_BYTES : LENGTH_BYTES + size], type=Header)
    place = LENGTH_BYTES + size
    columns: dict[str, dict[str, NDArray[Any]]] = {table: {} for table in TABLES}
    for table, column, code, length in header.arrays:
        place += -place % ALIGNMENT
        array = np.frombuffer(block, dtype=np.dtype(code), count=length, offset=place)
        columns[table][column] = array
        place += array.nbytes
    tables: dict[str, Any] = {name: kind(**columns[name]) for name, kind in TABLES.items()}
    return LongpoleTrace(
        strings=header.strings,
        lanes=header.lanes,
        info=header.info,
        layers=header.layers,
        steps=header.steps,
        **tables,
    )


def _arrays(trace: LongpoleTrace) -> Iterator[tuple[str, str, NDArray[Any]]]:
    for table in TABLES:
        held = getattr(trace, table)
        for item in fields(held):
            yield table, item.name, getattr(held, item.name)
