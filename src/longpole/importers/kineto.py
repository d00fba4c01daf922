"""Reads Kineto's Chrome JSON, of every age and device, into the event table."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from longpole.errors import LongpoleError
from longpole.importers.json_events import Decoders, Outside, event_lists
from longpole.importers.kineto_columns import SpanColumns, floats
from longpole.importers.kineto_event import Event, ExactEvent, event_from_text
from longpole.importers.kineto_marks import Marks
from longpole.importers.kineto_trace import trace_of
from longpole.importers.part import part_of
from longpole.importers.timestamps import loses_digits
from longpole.trace import DEVICE_WORK

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from longpole.importers.source import Source
    from longpole.trace import Trace


def sniff(head: bytes) -> bool:
    """Whether a file that starts so may be JSON."""
    return head.lstrip()[:1] in (b"{", b"[")


def read(source: Source) -> Trace:
    """The trace of a Chrome JSON file; raises LongpoleError where it is none."""
    reading = Reading()
    outside = Outside()
    with no_collection():
        for events in event_lists(source, outside, Decoders(reading.many, reading.one)):
            reading.add(events)
        if not reading.seen and "traceEvents" not in outside.fields and not outside.fields:
            why = f" ({outside.notes[0].rstrip('.')})" if outside.notes else ""
            raise LongpoleError(
                f"{source.path} is JSON but no trace: its list holds no event{why}; open what torch.profiler wrote"
            )
        return trace_of(source.path, part_of(reading), outside)


@contextmanager
def no_collection() -> Generator[None]:
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
        if not self.exact and loses_digits(floats([event.ts for event in events])):
            self.exact = True
            self._list = msgspec.json.Decoder(list[ExactEvent])
            return self._list.decode(text)
        return events

    def one(self, text: bytes) -> Event | None:
        event = event_from_text(text, exact=True)  # here nobody has looked whether a double holds its time
        self.dropped += event is None
        return event

    def add(self, events: Sequence[Event]) -> None:
        spans = [event for event in events if event.ph == "X"]
        if len(spans) < len(events):
            unwanted = self.marks.unwanted
            others = [event for event in events if event.ph != "X" and event.cat not in unwanted]
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
