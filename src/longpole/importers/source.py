"""Bytes of a trace file, gunzipped where it is gzip, a bounded piece at a time; a cut-off file ends early."""

from __future__ import annotations

import os
import stat
import sys
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
    """A trace file read from its start. `cut` says why reading ended early, once it has.

    Of a file that is not compressed it may be a stretch: the bytes from `start` up to `stop`.
    """

    def __init__(self, path: Path, start: int | None = None, stop: int | None = None) -> None:
        self.path = path
        self.cut: str | None = None
        self._ahead = b""
        self._file = _open(path)
        self._left = sys.maxsize if stop is None else stop - (start or 0)
        self._gzip = start is None and self._file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        self._file.seek(start or 0)
        self._inflate: Any = _decompressor() if self._gzip else None
        if start is not None:
            return
        head = self.peek(len(BOM))
        if head == BOM:
            self._ahead = self._ahead[len(BOM) :]

    def close(self) -> None:
        self._file.close()

    def plain_size(self) -> int | None:
        """Bytes of the file; None where it is compressed or no regular file."""
        status = os.fstat(self._file.fileno())
        return status.st_size if stat.S_ISREG(status.st_mode) and not self._gzip else None

    def gzip_size(self) -> int | None:
        """Bytes of the file as it is; None where it is not gzip, or no regular file."""
        status = os.fstat(self._file.fileno())
        return status.st_size if stat.S_ISREG(status.st_mode) and self._gzip else None

    def position(self) -> int:
        """Bytes of the file, which is not compressed, before what `read` gives next."""
        return self._file.tell() - len(self._ahead)

    def look(self, place: int, size: int) -> bytes:
        """Bytes of the file from anywhere, not compressed; reading cannot go on after that."""
        self._file.seek(place)
        return self._file.read(size)

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
            count: int = self._file.readinto(place[: self._left])  # pyright: ignore[reportAttributeAccessIssue]
            self._left -= count
            return count
        data = self.read(len(place))
        place[: len(data)] = data
        return len(data)

    def _next(self, size: int) -> bytes:
        if self._inflate is None:
            data = self._file.read(min(size, self._left))
            self._left -= len(data)
            return data
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
        if path.is_fifo():  # opening would wait for a writer, and formats are told apart by going back
            raise LongpoleError(f"{path} is a pipe; give a file, gzipped or not")
        return path.open("rb")
    except OSError as error:
        raise LongpoleError(f"cannot read {path}: {error.strerror}") from error
