"""Results read back from their JSON: each names its schema and version, and another one is refused in one line."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from longpole.errors import LongpoleError


class Versioned(Protocol):
    schema: str
    version: int


Result = TypeVar("Result", bound=Versioned)


def read_result(data: bytes, kind: type[Result], known: tuple[str, int], where: str) -> Result:
    """A result of this kind. `known` is the schema and the newest version of it that this longpole reads.

    Raises LongpoleError where `data` is none; `where` is the file's name, for people.
    """
    schema, version = known
    try:
        found = msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise LongpoleError(f"{where} is not a {schema.replace('.', ' ')}: {error}") from error
    if found.schema != schema or found.version > version:
        raise LongpoleError(
            f"{where} is a {found.schema} of version {found.version}; this longpole reads {schema} up to {version}"
        )
    return found
