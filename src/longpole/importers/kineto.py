"""Reads Kineto's Chrome JSON, of every age and device, into the event table."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from longpole.errors import LongpoleError
from longpole.importers.json_events import Decoders, Outside, event_lists
from longpole.importers.kineto_columns import SpanColumns, column_of
from longpole.importers.kineto_event import Event, ExactEvent, event_from_text
from longpole.importers.kineto_kinds import lane_sort
from longpole.importers.kineto_marks import Marks
from longpole.importers.launches import launches, sequence_from_arrows
from longpole.importers.run_info import run_info
from longpole.importers.timestamps import loses_digits
from longpole.trace import DEVICE_WORK, Collectives, EventWaits, Kind, Lane, Trace, make_table, nest

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from longpole.importers.codes import Identity
    from longpole.importers.source import Source

HOST_KINDS = (Kind.OP, Kind.RUNTIME, Kind.ANNOTATION, Kind.PYTHON, Kind.COLLECTIVE)


def sniff(head: bytes) -> bool:
    """Whether a file that starts so may be JSON."""
    return head.lstrip()[:1] in (b"{", b"[")


def read(source: Source) -> Trace:
    """The trace of a Chrome JSON file; raises LongpoleError where it is none."""
    reading = Reading()
    outside = Outside()
    with _no_collection():
        for events in event_lists(source, outside, Decoders(reading.many, reading.one)):
            reading.add(events)
        if not reading.seen and "traceEvents" not in outside.fields and not outside.fields:
            raise LongpoleError(
                f"{source.path} is JSON but no trace: its list holds no event; open what torch.profiler wrote"
            )
        return trace_of(source.path, reading, outside)


@contextmanager
def _no_collection() -> Generator[None]:
    """No garbage collection meanwhile: there are no cycles to find, and looking for them doubles the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Reading:
    """The state of reading one file."""

    def __init__(self, *, exact: bool = False) -> None:
        self.exact = exact
        self.seen = False  # anything that is an event
        self.dropped = 0
        self.spans = SpanColumns()
        self.marks = Marks(self.spans.lanes)
        self._list: msgspec.json.Decoder[Sequence[Event]] = msgspec.json.Decoder(list[Event])

    def many(self, text: bytes | memoryview) -> Sequence[Event]:
        events = self._list.decode(text)
        if not self.exact and loses_digits(column_of(events, "ts", np.float64)):
            self.exact = True
            self._list = msgspec.json.Decoder(list[ExactEvent])
            return self._list.decode(text)
        return events

    def one(self, text: bytes) -> Event | None:
        event = event_from_text(text, exact=self.exact)
        self.dropped += event is None
        return event

    def add(self, events: Sequence[Event]) -> None:
        spans = [event for event in events if event.ph == "X"]
        if len(spans) < len(events):
            others = [event for event in events if event.ph != "X"]
            self.seen = self.seen or any(event.ph for event in others)
            spans += self.marks.add(others)
        self.seen = self.seen or bool(spans)
        if spans:
            self.spans.add(spans)
            self._forget_launch_arrows()

    def _forget_launch_arrows(self) -> None:
        """Arrows from launches to kernels repeat what correlation ids say: keep them only for traces without."""
        if self.marks.launch_flows is None or not self.spans.pieces["kind"]:
            return
        on_device = np.isin(self.spans.pieces["kind"][-1], DEVICE_WORK)
        if np.any(self.spans.pieces["correlation"][-1][on_device] > 0):
            self.marks.launch_flows = None


def trace_of(path: Path, reading: Reading, outside: Outside, kind: str = "kineto") -> Trace:
    """Joins what was read into a Trace; `kind` is the RunInfo's source."""
    columns = reading.spans.joined()
    columns["lane"], lanes = _lanes(columns["kind"], columns["lane"], reading.marks, reading.spans.lanes.keys_seen)
    columns["launch"] = launches(columns, reading.marks.launch_flows)
    sequence_from_arrows(columns, reading.marks.gradient_flows)
    no_correlation = columns["correlation"] < 0
    columns["correlation"][no_correlation] = columns.pop("external")[no_correlation]
    on_host = np.flatnonzero(np.isin(columns["kind"], HOST_KINDS))
    columns["parent"] = nest(columns["start_ns"], columns["duration_ns"], columns["lane"], on_host)
    order = np.lexsort((-columns["duration_ns"], columns["start_ns"]))
    devices = sorted({lane.device for lane in lanes if lane.kind == "stream"})
    return Trace(
        events=make_table(columns),
        strings=reading.spans.strings.strings(),
        lanes=lanes,
        info=run_info(path, kind, outside.fields, devices, _warnings(reading, outside)),
        memory=reading.marks.memory_events(),
        collectives=_collectives(reading.spans.collectives, order),
        waits=_waits(reading.spans.waits, order),
    )


def _warnings(reading: Reading, outside: Outside) -> list[str]:
    counts = reading.spans.counts
    notes = list(outside.notes)
    if not reading.spans.rows:
        notes.append("The trace has no events with a duration.")
    if reading.dropped:
        notes.append(f"{reading.dropped} events could not be decoded and were left out.")
    if counts.unusable:
        notes.append(f"{counts.unusable} events have times that no clock gives and were left out.")
    if counts.negative:
        notes.append(f"{counts.negative} events have a negative duration, which was taken as zero.")
    for category, count in counts.unknown.items():
        notes.append(
            f"{count} events have the unknown category {category!r}: they count as neither host nor device work."
        )
    return notes


def _lanes(
    kind: NDArray[np.uint8], code: NDArray[np.int32], marks: Marks, keys: list[tuple[Identity, Identity]]
) -> tuple[NDArray[np.int32], list[Lane]]:
    """A lane for each thread, stream, and what is drawn beside them, from (process, thread) and sort of event."""
    sorts = np.array([lane_sort(value) for value in range(len(Kind))], dtype=np.int64)
    both = code.astype(np.int64) * 8 + sorts[kind]
    distinct, lane = np.unique(both, return_inverse=True)
    lanes = [_lane(int(one) % 8, int(one) // 8, keys, marks) for one in distinct]
    return lane.astype(np.int32).reshape(-1), lanes


def _lane(sort: int, code: int, keys: list[tuple[Identity, Identity]], marks: Marks) -> Lane:
    process, thread = keys[code]
    named = marks.thread_names.get(code)
    numbers = {
        "process": process if isinstance(process, int) else -1,
        "thread": thread if isinstance(thread, int) else -1,
    }
    if sort == 0:
        return Lane(name=named or f"thread {thread}", kind="host", **numbers)
    stream = f"stream {thread}"
    if sort == 1:
        return Lane(name=stream, kind="stream", device=numbers["process"], **numbers)
    what = {2: f"waits of {stream}", 3: f"annotations of {stream}"}.get(sort, named or f"{process} {thread}")
    return Lane(name=what, kind="async", device=numbers["process"] if sort in (2, 3) else -1, **numbers)


def _waits(found: list[tuple[int, int, int]], order: NDArray[np.intp]) -> EventWaits:
    table = np.array([row for row in found if max(map(abs, row)) < 2**63], dtype=np.int64).reshape(-1, 3)
    moved = np.empty(len(order), dtype=np.int64)
    moved[order] = np.arange(len(order))
    table[:, 0] = moved[table[:, 0]]
    table = table[np.argsort(table[:, 0], kind="stable")]
    return EventWaits(table[:, 0].astype(np.int32), table[:, 1].copy(), table[:, 2].copy())


def _collectives(found: list[tuple[int, int, int, int, int]], order: NDArray[np.intp]) -> Collectives:
    table = np.array(found, dtype=np.int64).reshape(-1, 5)
    moved = np.empty(len(order), dtype=np.int64)
    moved[order] = np.arange(len(order))
    table[:, 0] = moved[table[:, 0]]
    table = table[np.argsort(table[:, 0], kind="stable")]
    row, operation, group, ranks = (table[:, i].astype(np.int32) for i in range(4))
    return Collectives(row, operation, group, ranks, message_bytes=table[:, 4].copy())
