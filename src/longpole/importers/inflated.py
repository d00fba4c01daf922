"""One large gzipped JSON file read by several processes: this one inflates it, and stretches of its text go to each.

Cuts are guesses, proved as in `stretches`. Of the text only the stretches being read are held, in shared memory.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING

from longpole.importers.json_events import Outside, UnprovenError, enter
from longpole.importers.json_structure import LEARN_BYTES, learn_border
from longpole.importers.kineto import sniff
from longpole.importers.kineto_trace import trace_of
from longpole.importers.part import join
from longpole.importers.shipping import read_part
from longpole.importers.source import READ_BYTES, Source
from longpole.importers.stretches import LOOK_BYTES, STRETCH_BYTES, read_rest, read_stretch
from longpole.importers.workers import (
    LARGE_GZIP_BYTES,
    MOST_WORKERS,
    Task,
    WorkerLostError,
    ask,
    place_of,
    shared_block,
    worker,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import Popen

    from longpole.importers.part import Part
    from longpole.trace import Trace

    Numbered = tuple[int, IO[bytes]]

LAST = sys.maxsize  # the number of the last stretch: how many come before is not known


def read_large_gzip(path: Path, workers: int) -> Trace | None:
    """The Trace of a large gzipped JSON file as one process would read it.

    None where that is for one process to do: the file is small or another, or cannot be proved to be cut where events
    end. Raises LongpoleError where it is no trace.
    """
    source = Source(path)
    try:
        size = source.gzip_size()
        if size is None or size < LARGE_GZIP_BYTES or not sniff(source.peek(LEARN_BYTES)):
            return None
        outside = Outside()
        text = bytearray(enter(source, outside))
        while len(text) < LEARN_BYTES and (more := source.read(READ_BYTES)):
            text += more
        border = learn_border(bytes(text[:LEARN_BYTES]))
        if border is None:
            return None
        parts = _read(source, text, border, outside, min(workers, MOST_WORKERS))
    except (UnprovenError, WorkerLostError, OSError):
        return None
    finally:
        source.close()
    whole = join(parts)
    if not whole.tables.seen and not outside.fields:
        return None  # a list of something else: one process says so
    return trace_of(path, whole, outside)


def _read(source: Source, text: bytearray, border: bytes, outside: Outside, workers: int) -> list[Part]:
    """All stretches; this process reads one where the others have enough, and the last."""
    waiting: SimpleQueue[Numbered | None] = SimpleQueue()
    found: dict[int, Part] = {}
    with ThreadPoolExecutor(workers) as threads:
        jobs = [threads.submit(_feed, waiting, found) for _ in range(workers - 1)]
        try:
            for one in enumerate(_stretches(source, text, border)):
                waiting.put(one)
                if waiting.qsize() > len(jobs):
                    _read_here(waiting, found)
                if any(job.done() for job in jobs):
                    break  # by an error, which `result` raises
            else:
                found[LAST] = _read_last(source, text, outside)
                while _read_here(waiting, found):
                    pass
        finally:
            for _ in jobs:
                waiting.put(None)
    for job in jobs:
        job.result()
    return [found[number] for number in sorted(found)]


def _stretches(source: Source, text: bytearray, border: bytes) -> Iterator[IO[bytes]]:
    """Text from one border to another, a block each; leaves the rest of the file in `text`, which is the window."""
    while True:
        while len(text) < STRETCH_BYTES + LOOK_BYTES:
            more = source.read(READ_BYTES)
            if not more:
                return
            text += more
        place = text.find(border, STRETCH_BYTES)
        if place < 0:
            raise UnprovenError
        cut = place + border.index(b"{")
        yield _block(memoryview(text)[:cut])
        del text[:cut]


def _block(text: bytearray | memoryview) -> IO[bytes]:
    block = shared_block()
    block.write(text)
    block.flush()
    if isinstance(text, memoryview):
        text.release()  # a bytearray that is looked at cannot be shortened
    return block


def _read_here(waiting: SimpleQueue[Numbered | None], found: dict[int, Part]) -> bool:
    """Reads a stretch that nobody has taken; False where there is none."""
    try:
        one = waiting.get_nowait()
    except Empty:
        return False
    if one is not None:
        with one[1] as block:
            found[one[0]] = read_stretch(Path(place_of(block)), 0, block.tell())
    return True


def _read_last(source: Source, text: bytearray, outside: Outside) -> Part:
    """From the last border to the end of the file, with the fields after the events."""
    with _block(text) as block:
        rest = Source(Path(place_of(block)), 0)
        rest.cut = source.cut
        return read_rest(rest, outside)


def _feed(waiting: SimpleQueue[Numbered | None], found: dict[int, Part]) -> None:
    """Keeps one process busy until there is no more."""
    with worker() as process:
        while (one := waiting.get()) is not None:
            with one[1] as block:
                found[one[0]] = _answered(process, block)


def _answered(process: Popen[bytes], block: IO[bytes]) -> Part:
    reply, columns = ask(process, Task(place_of(block), stretch=(0, block.tell())))
    if reply.error:
        raise UnprovenError
    return read_part(columns)
