"""Bytes of a trace file, gunzipped where it is gzip, a bounded piece at a time; a cut-off file ends early."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

GZIP_MAGIC = b"\x1f\x8b"
GZIP_WINDOW = 31  # zlib's wbits for "gzip header and checksum"
READ_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"


def _decompressor() -> Any:
    try:
        from isal import isal_zlib  # pyright: ignore[reportMissingImports] # the extra `fast`: twice as fast
    except ImportError:
        return zlib.decompressobj(GZIP_WINDOW)
    return isal_zlib.decompressobj(GZIP_WINDOW)


class Source:
    """A trace file read from its start. `cut` says why reading ended early, once it has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut: str | None = None
        self._ahead = b""
        self._file = _open(path)
        self._gzip = self._file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        self._file.seek(0)
        self._inflate: Any = _decompressor() if self._gzip else None
        head = self.peek(len(BOM))
        if head == BOM:
            self._ahead = self._ahead[len(BOM) :]

    def close(self) -> None:
        self._file.close()

    def peek(self, size: int) -> bytes:
        """The next bytes, which the next `read` will give again."""
        if len(self._ahead) < size:
            self._ahead += self._next(size - len(self._ahead))
        return self._ahead[:size]

    def read(self, size: int) -> bytes:
        """Up to `size` bytes (at least one until the end is reached)."""
        if self._ahead:
            taken, self._ahead = self._ahead[:size], self._ahead[size:]
            return taken
        return self._next(size)

    def readinto(self, place: memoryview) -> int:
        """Fills the front of `place`; how many bytes, 0 at the end."""
        if not self._ahead and not self._gzip:
            return self._file.readinto(place)  # pyright: ignore[reportAttributeAccessIssue]
        data = self.read(len(place))
        place[: len(data)] = data
        return len(data)

    def _next(self, size: int) -> bytes:
        if self._inflate is None:
            return self._file.read(size)
        pieces: list[bytes] = []
        while size > 0:
            piece = self._inflated(size)
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _inflated(self, size: int) -> bytes:
        """Some of the next bytes of the gzip stream; the limit on output is what keeps a gzip bomb harmless."""
        while self.cut is None:
            given = self._inflate.unconsumed_tail or self._file.read(READ_BYTES)
            if self._inflate.eof:
                given = self._inflate.unused_data + given
                if not given.startswith(GZIP_MAGIC):  # padding after the last member
                    return b""
                self._inflate = _decompressor()
            try:
                piece = self._inflate.decompress(given, size)
            except Exception as error:  # zlib.error or IsalError, which is no subclass of it
                self.cut = f"its gzip stream is damaged ({error})"
                return b""
            if piece:
                return piece
            if not given and not self._inflate.eof:
                self.cut = "its gzip stream ends early"
        return b""


def _open(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise LongpoleError(f"{path} is a folder; name the trace files in it, for example {path}/*.json.gz")
        return path.open("rb")
    except OSError as error:
        raise LongpoleError(f"cannot read {path}: {error.strerror}") from error
