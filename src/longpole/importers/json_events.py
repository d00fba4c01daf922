"""The events of a Chrome JSON trace in bounded lists, whatever the layout, up to where the file is whole."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from longpole.errors import LongpoleError
from longpole.importers.json_repair import loads_leniently
from longpole.importers.json_structure import LEARN_BYTES, event_spans, learn_border
from longpole.importers.window import BETWEEN, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from longpole.importers.source import Source

PIECE_BYTES = 1 << 20
HEADER_LIMIT = 64 << 20  # an event list that has not begun by then never will
EVENT_LIMIT = 16 << 20
TRAILER_LIMIT = 64 << 20
EVENTS_KEY = re.compile(rb'(?<!\\)"traceEvents"\s*:\s*\[')
MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # ValidationError is a DecodeError

Event = TypeVar("Event")


class UnprovenError(Exception):
    """A stretch of a file does not end where an event does, or cannot be told to."""


@dataclass
class Outside:
    """What stands round the event list; complete once the events have been read."""

    fields: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Decoders(Generic[Event]):
    """How events are decoded: a whole list at once, or one that the first refused; None drops it."""

    many: Callable[[bytes | memoryview], Sequence[Event]]
    one: Callable[[bytes], Event | None]


def event_lists(source: Source, outside: Outside, decoders: Decoders[Event]) -> Iterator[Sequence[Event]]:
    """Lists of events from pieces of about 1 MB.

    Raises LongpoleError where the file is no JSON trace.
    """
    yield from lists_from(source, enter(source, outside), outside, decoders)


def stretch_lists(source: Source, decoders: Decoders[Event]) -> Iterator[Sequence[Event]]:
    """Lists of events of a stretch from the border of an event to that of another, where the source ends.

    Raises UnprovenError where what was read does not show that it ends at a border, if it starts at one.
    """
    outside = Outside()
    yield from lists_from(source, b"", outside, decoders, until_border=True)
    if outside.notes:
        raise UnprovenError


def lists_from(
    source: Source, text: bytes, outside: Outside, decoders: Decoders[Event], *, until_border: bool = False
) -> Iterator[Sequence[Event]]:
    """Lists of events after `text`, which starts at the border of an event, up to where the list is closed.

    Raises UnprovenError where `until_border`, and the list is closed or the source ends elsewhere than at a border.
    """
    window = Window(text)
    border: bytes | None = None
    size = PIECE_BYTES
    while window.fill(source, size):
        border = border or learn_border(window.text(LEARN_BYTES))
        events, used, closing = _some(window, border, decoders)
        if closing is not None and until_border:
            raise UnprovenError
        if events:
            yield events
        del events  # it may look into the window
        window.drop(used)
        size = max(PIECE_BYTES, len(window))  # twice as much where nothing was whole: what is read again adds up
        if closing is not None:
            _leave(window.text(), source, outside)
            return
        if len(window) > EVENT_LIMIT:
            outside.notes.append("An event is larger than 16 MB, or the file is damaged there: the rest was left out.")
            return
    events, used, closing = _by_structure(window, decoders)
    if until_border and (closing is not None or window.text()[used:].strip(BETWEEN)):
        raise UnprovenError
    if events:
        yield events
    if closing is not None:
        _leave(window.text()[used:], source, outside)
    elif not until_border:
        reason = source.cut or "it ends before its event list does"
        outside.notes.append(f"The file is cut off: {reason}. Everything before the cut was used.")


def _some(window: Window, border: bytes | None, decoders: Decoders[Event]) -> tuple[Sequence[Event], int, int | None]:
    """Events at the front of the window, how much of it they fill, and where the list is closed, if it is."""
    events, used = _by_border(window, border, decoders)
    return _by_structure(window, decoders) if events is None else (events, used, None)


def _by_border(window: Window, border: bytes | None, decoders: Decoders[Event]) -> tuple[Sequence[Event] | None, int]:
    """Events up to the last thing in the window that looks like a border; None where it was none.

    That `[` + part + `]` decodes is the proof: a parser that has read the part is outside strings and at the
    depth of the list, or the bracket would not have been accepted.
    """
    cut = window.rfind(border) if border else -1
    if cut < 0 or border is None:
        return None, 0
    end = cut + border.index(b"}") + 1
    try:
        return window.as_array(end, decoders.many), end
    except MALFORMED:
        return None, 0


def _by_structure(window: Window, decoders: Decoders[Event]) -> tuple[Sequence[Event], int, int | None]:
    """Every whole event of the window, how much of it they fill, and where the list is closed, if it is."""
    text = window.text()
    spans, closing = event_spans(text)
    end = spans[-1][1] if spans else 0
    used = end if closing is None else closing
    if not spans:
        return [], used, closing
    try:
        return decoders.many(b"[" + text[:end] + b"]"), used, closing
    except MALFORMED:
        found = [decoders.one(text[start:stop]) for start, stop in spans]
        return [event for event in found if event is not None], used, closing


def enter(source: Source, outside: Outside) -> bytes:
    """Reads up to the first event; returns what was read beyond. Fills `outside` with the fields before."""
    text = source.peek(1)
    if not text:
        raise LongpoleError(f"{source.path} is empty; nothing was recorded, or the copy failed")
    text = b""
    while more := source.read(PIECE_BYTES):
        text += more
        head = text.lstrip()
        if head.startswith(b"["):
            return head[1:].lstrip(BETWEEN)
        if not head.startswith(b"{"):
            raise LongpoleError(f"{source.path} is not a trace: it starts with neither {{ nor [")
        for found in EVENTS_KEY.finditer(text):
            before = _fields(text[: found.start()] + b'"traceEvents":[]}')
            if before is not None:
                outside.fields.update(before)
                return text[found.end() :].lstrip(BETWEEN)
        if len(text) > HEADER_LIMIT:
            break
    if source.cut:
        raise LongpoleError(f"{source.path} cannot be used: {source.cut}, before its first event; copy it again")
    raise LongpoleError(
        f"{source.path} is JSON but no PyTorch or Chrome trace: it has no traceEvents; open what "
        "torch.profiler's export_chrome_trace or tensorboard_trace_handler wrote"
    )


def _fields(text: bytes) -> dict[str, Any] | None:
    found = loads_leniently(text)
    if not isinstance(found, dict):
        return None
    found.pop("traceEvents", None)
    return found


def _leave(text: bytes, source: Source, outside: Outside) -> None:
    """Reads the fields after the event list; `text` starts with the bracket that closes it."""
    while len(text) < TRAILER_LIMIT and (more := source.read(PIECE_BYTES)):
        text += more
    rest = text.strip()[1:].strip(BETWEEN)
    if not rest or rest == b"}":
        return
    after = _fields(b"{" + rest)
    if after is not None:
        outside.fields.update(after)
    elif source.cut or rest[:1] == b'"':
        reason = source.cut or "its last fields are not whole"
        outside.notes.append(f"The file is cut off after its events ({reason}): all events were used.")
