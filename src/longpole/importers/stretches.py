"""One large JSON file read by several processes: each decodes stretches of it, and the columns are joined.

A place to cut is a guess: text that looks like the border between two events may stand inside a string. It is proved
by who reads the stretch before: starting from a border, it must come out at the cut outside strings and at the depth
of the event list. The first stretch starts at the first event, so all hold or the file is read again by one process.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

from longpole.importers.json_events import (
    Decoders,
    Outside,
    UnprovenError,
    enter,
    lists_from,
    stretch_lists,
)
from longpole.importers.json_structure import LEARN_BYTES, learn_border
from longpole.importers.kineto import Reading, no_collection, sniff
from longpole.importers.kineto_trace import trace_of
from longpole.importers.part import join, part_of
from longpole.importers.shipping import read_part
from longpole.importers.source import Source
from longpole.importers.workers import LARGE_BYTES, MOST_WORKERS, Task, WorkerLostError, ask, worker

if TYPE_CHECKING:
    from pathlib import Path

    from longpole.importers.part import Part
    from longpole.trace import Trace

STRETCH_BYTES = 12 << 20
LOOK_BYTES = 1 << 20  # how far from where a cut is wanted a border is looked for


def read_large(path: Path, workers: int) -> Trace | None:
    """The Trace of a large JSON file as one process would read it.

    None where that is for one process to do: the file is small, compressed, or cannot be proved to be cut where
    events end. Raises LongpoleError where it is no trace.
    """
    source = Source(path)
    try:
        size = source.plain_size()
        if size is None or size < LARGE_BYTES or not sniff(source.peek(LOOK_BYTES)):
            return None
        outside = Outside()
        text = enter(source, outside)
        edges = [source.position() - len(text)]
        edges += find_cuts(source, learn_border(text[:LEARN_BYTES]), edges[0], size)
    finally:
        source.close()
    if len(edges) < 3:
        return None
    try:
        parts = _read(path, edges, outside, min(workers, MOST_WORKERS))
    except (UnprovenError, WorkerLostError, OSError):
        return None
    whole = join(parts)
    if not whole.tables.seen and not outside.fields:
        return None  # a list of something else: one process says so
    return trace_of(path, whole, outside)


def find_cuts(source: Source, border: bytes | None, start: int, size: int) -> list[int]:
    """Places where an event begins, as far as can be told by looking, about STRETCH_BYTES from one to the next."""
    cuts: list[int] = []
    if border is None:
        return cuts
    for wanted in range(start + STRETCH_BYTES, size - STRETCH_BYTES // 2, STRETCH_BYTES):
        text = source.look(wanted, LOOK_BYTES)
        place = text.find(border)
        if place >= 0:
            cuts.append(wanted + place + border.index(b"{"))
    return sorted(set(cuts))


def read_stretch(path: Path, start: int, stop: int) -> Part:
    """What lies between two borders. Raises UnprovenError where what lies there does not show that they are borders."""
    source = Source(path, start, stop)
    reading = Reading()
    try:
        with no_collection():
            for events in stretch_lists(source, Decoders(reading.many, reading.one)):
                reading.add(events)
    finally:
        source.close()
    return _whole(reading)


def read_rest(source: Source, outside: Outside) -> Part:
    """From a border to the end of the file, with the fields after the events; closes the source."""
    reading = Reading()
    try:
        with no_collection():
            for events in lists_from(source, b"", outside, Decoders(reading.many, reading.one)):
                reading.add(events)
    finally:
        source.close()
    return _whole(reading)


def _whole(reading: Reading) -> Part:
    if reading.marks.halves:  # an event may begin in one stretch and end in another
        raise UnprovenError
    return part_of(reading)


def _read(path: Path, edges: list[int], outside: Outside, workers: int) -> list[Part]:
    """All stretches, read by this process and `workers` - 1 others; this one takes them from the end."""
    waiting = deque(enumerate(pairwise(edges)))
    found: dict[int, Part] = {}
    with ThreadPoolExecutor(workers) as threads:
        jobs = [threads.submit(_feed, path, waiting, found) for _ in range(workers - 1)]
        try:
            found[len(edges) - 1] = read_rest(Source(path, edges[-1]), outside)
            while waiting and not any(job.done() and job.exception() for job in jobs):
                index, stretch = waiting.pop()
                found[index] = read_stretch(path, *stretch)
        finally:
            waiting.clear()
    for job in jobs:
        job.result()
    return [found[index] for index in range(len(edges))]


def _feed(path: Path, waiting: deque[tuple[int, tuple[int, int]]], found: dict[int, Part]) -> None:
    """Keeps one process busy until no stretch is waiting."""
    with worker() as process:
        while True:
            try:
                index, stretch = waiting.popleft()
            except IndexError:
                return
            reply, block = ask(process, Task(str(path), stretch=stretch))
            if reply.error:
                raise UnprovenError
            found[index] = read_part(block)
