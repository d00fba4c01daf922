"""A trace file of whatever format into the event table. The list below is every format there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.errors import LongpoleError
from longpole.importers import inflated, kineto, own, parallel, perfetto, stretches
from longpole.importers.source import Source
from longpole.importers.workers import can_start, cores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from longpole.trace import Trace

SNIFF_BYTES = 4096
# (does a file that starts so look like this format, read it)
IMPORTERS: Sequence[tuple[Callable[[bytes], bool], Callable[[Source], Trace]]] = (
    (own.sniff, own.read),
    (kineto.sniff, kineto.read),
    (perfetto.sniff, perfetto.read),
)

# (how a file starts, what to do with it)
KNOWN_OTHERS: Sequence[tuple[bytes, str]] = (
    (b"PK\x03\x04", "it is a zip archive; unpack it and open the trace in it"),
    (b"(\xb5/\xfd", "it is compressed by zstd; unpack it first"),
    (b"\xfd7zXZ", "it is compressed by xz; unpack it first"),
    (b"BZh", "it is compressed by bzip2; unpack it first"),
    (b"\xff\xfe", "it is UTF-16, and JSON is UTF-8; convert it first"),
    (b"\xfe\xff", "it is UTF-16, and JSON is UTF-8; convert it first"),
    (b"SQLite format 3", "it is an SQLite database, of Nsight Systems perhaps; open what torch.profiler wrote"),
)


def open_trace(path: Path, workers: int | None = None) -> Trace:
    """The trace in one file, whatever its format and whether gzipped or not.

    Up to `workers` processes (as many as there are cores where None) decode a large JSON file.
    Raises LongpoleError with one line where the file cannot be read or is no trace.
    """
    workers = workers or cores()
    if workers > 1 and can_start():
        for read in (stretches.read_large, inflated.read_large_gzip):
            found = read(path, workers)
            if found is not None:
                return found
    source = Source(path)
    try:
        head = source.peek(SNIFF_BYTES)
        if not head:
            raise LongpoleError(f"{path} is empty{_because(source)}; nothing was recorded, or the copy failed")
        for sniff, read in IMPORTERS:
            if sniff(head):
                return read(source)
    finally:
        source.close()
    raise LongpoleError(f"{path} is not a trace: {_what_it_is(head)}")


def _what_it_is(head: bytes) -> str:
    for start, said in KNOWN_OTHERS:
        if head.startswith(start):
            return said
    return "it is neither JSON nor a Perfetto trace; open what torch.profiler wrote"


def _because(source: Source) -> str:
    return f" ({source.cut})" if source.cut else ""


def open_traces(paths: Sequence[Path], workers: int | None = None) -> list[Trace]:
    """Traces of several ranks, sorted by rank (unknown ranks last, in the order given).

    `workers` processes decode at once (as many as there are cores where None); 1 keeps it in this process.
    Raises LongpoleError as `open_trace` does.
    """
    most = workers or cores()
    if min(len(paths), most) > 1 and can_start() and not any(own.is_own(path) for path in paths):
        traces = parallel.read_all(paths, min(len(paths), most))
    else:
        traces = [open_trace(path, most) for path in paths]
    return sorted(traces, key=lambda trace: (trace.info.rank is None, trace.info.rank or 0))


__all__ = ["IMPORTERS", "open_trace", "open_traces"]
