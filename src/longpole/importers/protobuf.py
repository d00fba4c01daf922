"""The protobuf wire format, read without a schema: fields by number (protobuf.dev/programming-guides/encoding)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Value: TypeAlias = "int | bytes"
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST_VARINT = 10


class TruncatedError(ValueError):
    """The bytes end within a field, or are no protobuf."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, position after it)."""
    value = shift = 0
    for place in range(at, at + LONGEST_VARINT):
        if place >= len(data):
            raise TruncatedError
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place + 1
        shift += 7
    raise TruncatedError


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(field number, value) in order: varints and fixed numbers as unsigned int, everything else as bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = varint(data, at)
            yield tag >> 3, value
            continue
        size, at = _size(kind, data, at)
        if at + size > end:
            raise TruncatedError
        held = data[at : at + size]
        at += size
        yield tag >> 3, held if kind == BYTES else int.from_bytes(held, "little")


def _size(kind: int, data: bytes, at: int) -> tuple[int, int]:
    if kind == BYTES:
        return varint(data, at)
    if kind == FIXED64:
        return 8, at
    if kind == FIXED32:
        return 4, at
    raise TruncatedError


def signed(value: int) -> int:
    """An int64 from its varint."""
    return value - (1 << 64) if value >= 1 << 63 else value


def double(value: int) -> float:
    """A double from the bits of its fixed64."""
    return struct.unpack("<d", value.to_bytes(8, "little"))[0]


def text(value: Value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
