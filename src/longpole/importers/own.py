"""longpole's own traces: as a file, and inside the Perfetto file that `longpole run --perfetto` wrote."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from longpole.errors import LongpoleError
from longpole.importers.source import Source
from longpole.trace.store import MAGIC, load

if TYPE_CHECKING:
    from pathlib import Path

    from longpole.trace import Trace

# The first field of the JSON: viewers pass over it, and reading it back loses nothing of the run.
FIELD = b'{"longpoleTrace":"'
PIECE = 1 << 20


def sniff(head: bytes) -> bool:
    return head.startswith((MAGIC, FIELD))


def is_own(path: Path) -> bool:
    source = Source(path)
    try:
        return sniff(source.peek(len(MAGIC) + len(FIELD)))
    finally:
        source.close()


def read(source: Source) -> Trace:
    """Raises LongpoleError where the recording is damaged."""
    if source.peek(len(MAGIC)) == MAGIC:
        return load(b"".join(iter(lambda: source.read(PIECE), b"")), str(source.path))
    source.read(len(FIELD))
    text = bytearray()
    while piece := source.read(PIECE):
        end = piece.find(b'"')
        text += piece if end < 0 else piece[:end]
        if end >= 0:
            break
    try:
        data = base64.b64decode(bytes(text[: len(text) // 4 * 4]), validate=True)
    except binascii.Error as error:
        raise LongpoleError(f"{source.path}: the recording inside it is damaged ({error}); write it again") from error
    return load(data, str(source.path))
