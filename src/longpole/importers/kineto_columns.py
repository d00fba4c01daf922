"""Lists of decoded events into columns, a list at a time; what was read is dropped before the next list comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from longpole.importers.codes import LaneCodes, Names
from longpole.importers.data_types import element_bytes
from longpole.importers.kineto_event import NO_JSON, Args, Event, ExactEvent
from longpole.importers.kineto_kinds import (
    COLLECTIVE_ANNOTATIONS,
    COLLECTIVE_OPS,
    KINDS,
    PROCESS_KINDS,
    SPAN_OF_WHOLE_TRACE,
    needs_values,
)
from longpole.importers.timestamps import digits_to_ns, to_ns
from longpole.trace import Interner, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

SKIP = 255  # no row of the table
COLUMN_TYPES = {
    "start_ns": np.int64,
    "duration_ns": np.int64,
    "name": np.int32,
    "kind": np.uint8,
    "lane": np.int32,
    "correlation": np.int64,
    "external": np.int64,
    "sequence": np.int64,
    "forward_thread": np.int32,
    "shapes": np.int32,
    "dtypes": np.int32,
    "concrete": np.int32,
    "stack": np.int32,
    "bytes_moved": np.int64,
}
TEXT_COLUMNS = ("name", "shapes", "dtypes", "concrete", "stack")  # their values are rows of Trace.strings


@dataclass
class Counts:
    """What could not be taken as written."""

    negative: int = 0
    unusable: int = 0
    unknown: dict[str, int] = field(default_factory=dict[str, int])  # category -> events

    def extend(self, more: Counts) -> None:
        self.negative += more.negative
        self.unusable += more.unusable
        for category, count in more.unknown.items():
            self.unknown[category] = self.unknown.get(category, 0) + count


@dataclass
class SpanColumns:
    """Complete events (`ph: X`) so far: pieces of columns, to be joined at the end."""

    strings: Interner = field(default_factory=Interner)
    lanes: LaneCodes = field(default_factory=LaneCodes)
    counts: Counts = field(default_factory=Counts)
    pieces: dict[str, list[NDArray[Any]]] = field(default_factory=lambda: {name: [] for name in COLUMN_TYPES})
    collectives: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    waits: list[tuple[int, int, int]] = field(default_factory=list)  # row, awaited record, awaited stream
    rows: int = 0

    def __post_init__(self) -> None:
        self.names = Names(self.strings)
        self._kinds: dict[str, int] = {}
        self._shapes: dict[bytes, int] = {b"": -1}
        self._is_collective: dict[int, bool] = {}
        self._needs_values: dict[int, bool] = {}

    def add(self, spans: Sequence[Event]) -> None:
        """Appends rows; spans of unusable time or of no interest are left out and counted."""
        start, usable = starts_of(spans)
        duration, long_enough = to_ns(column_of(spans, "dur", np.float64))
        kind = self._kinds_of(spans)
        usable &= long_enough & (start.astype(np.float64) + duration < 9.2e18)
        self.counts.unusable += int(np.count_nonzero(~usable & (kind != SKIP)))
        usable &= kind != SKIP
        if not usable.all():
            spans = [spans[index] for index in np.flatnonzero(usable).tolist()]
            start, duration, kind = start[usable], duration[usable], kind[usable]
        self.counts.negative += int(np.count_nonzero(duration < 0))
        self._append(spans, {"start_ns": start, "duration_ns": np.maximum(duration, 0), "kind": kind})

    def _append(self, spans: Sequence[Event], columns: dict[str, NDArray[Any]]) -> None:
        count = len(spans)
        kind = columns["kind"]
        args = list(map(attrgetter("args"), spans))
        columns["name"] = np.fromiter(map(self.names.__getitem__, map(attrgetter("name"), spans)), np.int32, count)
        keys = map(attrgetter("pid", "tid"), spans)
        columns["lane"] = np.fromiter(map(self.lanes.__getitem__, keys), np.int32, count)
        columns["correlation"] = integers(args, "correlation")
        columns["external"] = _either(integers(args, "external"), args, "external_old")
        self._mark_collectives(kind, columns["name"])
        on_host = np.flatnonzero((kind == Kind.OP) | (kind == Kind.COLLECTIVE) | (kind == Kind.ANNOTATION))
        self._append_op_args([args[row] for row in on_host.tolist()], on_host, columns)
        copies = np.flatnonzero((kind == Kind.MEMCPY) | (kind == Kind.MEMSET))
        columns["bytes_moved"] = _scattered(copies, integers([args[r] for r in copies.tolist()], "bytes_copied"), count)
        self._add_collectives(args, columns["bytes_moved"])
        for row in np.flatnonzero(kind == Kind.SYNC).tolist():
            if args[row].awaited_record > -2:
                self.waits.append((self.rows + row, args[row].awaited_record, args[row].awaited_stream))
        for name, dtype in COLUMN_TYPES.items():
            self.pieces[name].append(columns[name].astype(dtype, copy=False))
        self.rows += count

    def _append_op_args(self, args: list[Args], rows: NDArray[np.intp], columns: dict[str, NDArray[Any]]) -> None:
        count = len(columns["name"])
        for name in ("sequence", "forward_thread"):
            columns[name] = _scattered(rows, integers(args, name), count)
        columns["forward_thread"][np.abs(columns["forward_thread"]) >= 2**31] = -1
        columns["shapes"] = _scattered(rows, self._json(args, "dims", "dims_old"), count)
        columns["dtypes"] = _scattered(rows, self._json(args, "types"), count)
        columns["concrete"] = self._concrete(args, rows, columns["name"])
        columns["stack"] = _scattered(rows, self._stacks(args), count)

    def _stacks(self, args: list[Args]) -> NDArray[np.int32]:
        first, second = _texts(args, "module"), _texts(args, "call_stack")
        if first is None and second is None:
            return np.full(len(args), -1, dtype=np.int32)
        nothing = [""] * len(args)
        texts = [one or other for one, other in zip(first or nothing, second or nothing, strict=True)]
        return np.fromiter((self.names[text] if text else -1 for text in texts), np.int32, len(args))

    def _json(self, args: list[Args], *fields: str) -> NDArray[np.int32]:
        """Rows of Trace.strings of JSON texts, made compact: layouts differ, shapes do not."""
        found = [raws for name in fields if (raws := _raws(args, name)) is not None]
        if not found:
            return np.full(len(args), -1, dtype=np.int32)
        texts = list(map(bytes, found[0]))
        if len(found) > 1:
            texts = [one or bytes(other) for one, other in zip(texts, found[1], strict=True)]
        known = self._shapes
        for text in dict.fromkeys(texts):  # not a set: the order of strings must not change from run to run
            if text not in known:
                known[text] = self.names[msgspec.json.format(text, indent=-1).decode("utf-8", "replace")]
        return np.fromiter(map(known.__getitem__, texts), np.int32, len(texts))

    def _concrete(self, args: list[Args], rows: NDArray[np.intp], name: NDArray[np.int32]) -> NDArray[np.int32]:
        """Rows of Trace.strings of the values of inputs, for the ops whose cost depends on them."""
        column = np.full(len(name), -1, dtype=np.int32)
        fresh = [code for code in np.unique(name[rows]).tolist() if code not in self._needs_values]
        texts = self.strings.strings() if fresh else []
        self._needs_values.update((code, needs_values(texts[code])) for code in fresh)
        wanted = [code for code, is_one in self._needs_values.items() if is_one]
        places = np.flatnonzero(np.isin(name[rows], wanted)) if wanted else []
        given = [args[place] for place in places]
        if given:
            found = self._json(given, "concrete")
            column[rows[places]] = found
        return column

    def _kinds_of(self, spans: Sequence[Event]) -> NDArray[np.uint8]:
        words = list(map(attrgetter("cat"), spans))
        for word in set(words).difference(self._kinds):
            plain = word.lower()
            known = KINDS.get(plain, Kind.OTHER)
            self._kinds[word] = SKIP if plain in SPAN_OF_WHOLE_TRACE else int(known)
        kind = np.fromiter(map(self._kinds.__getitem__, words), np.uint8, len(words))
        odd = np.flatnonzero(kind == Kind.OTHER)
        for index in odd.tolist():
            kind[index] = self._kind_of_odd(spans[index])
        return kind

    def _kind_of_odd(self, span: Event) -> int:
        """The kind of an event without a known category."""
        if span.cat.lower() in KINDS:
            return Kind.OTHER
        if not span.cat and span.pid in PROCESS_KINDS:
            return PROCESS_KINDS[str(span.pid)]
        self.counts.unknown[span.cat] = self.counts.unknown.get(span.cat, 0) + 1
        return Kind.OTHER

    def _mark_collectives(self, kind: NDArray[np.uint8], name: NDArray[np.int32]) -> None:
        """Turns ops and annotations that are collectives of the host into that kind, in place."""
        host = np.flatnonzero((kind == Kind.OP) | (kind == Kind.ANNOTATION))
        known = self._is_collective
        fresh = [code for code in np.unique(name[host]).tolist() if code not in known]
        texts = self.strings.strings() if fresh else []
        for code in fresh:
            known[code] = texts[code] in COLLECTIVE_OPS or texts[code].startswith(COLLECTIVE_ANNOTATIONS)
        marked = [code for code, is_one in known.items() if is_one]
        if marked:
            kind[host[np.isin(name[host], marked)]] = Kind.COLLECTIVE

    def _add_collectives(self, args: list[Args], bytes_moved: NDArray[np.int64]) -> None:
        if _texts(args, "collective") is None:
            return
        for index, given in enumerate(args):
            if given.collective:
                size = message_bytes(given)
                bytes_moved[index] = size
                entry = (
                    self.rows + index,
                    self.names[given.collective],
                    self.names[_group(given)],
                    given.group_size,
                    size,
                )
                self.collectives.append(entry)

    def joined(self) -> dict[str, NDArray[Any]]:
        """The columns; the pieces are let go one column after the other."""
        found: dict[str, NDArray[Any]] = {}
        for name, dtype in COLUMN_TYPES.items():
            parts = self.pieces.pop(name)
            found[name] = np.concatenate(parts) if parts else np.empty(0, dtype=dtype)
        return found


def _group(args: Args) -> str:
    """What people call the process group: its description ("mesh_tp"), where it was given one, else its name."""
    described = args.group_description
    return described if described and described != "undefined" else args.group


def message_bytes(args: Args) -> int:
    """Bytes of a collective's whole message, -1 where the trace does not say.

    The larger of input and output: all_gather and reduce_scatter are counted by the whole tensor, as
    nccl-tests does (github.com/NVIDIA/nccl-tests, doc/PERFORMANCE.md).
    """
    elements = max(args.elements_in, args.elements_out)
    size = element_bytes(args.message_dtype)
    return elements * size if elements >= 0 and size is not None and elements < 2**58 else -1


def starts_of(spans: Sequence[Event]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Start times, ns, and which of them are usable."""
    try:
        if spans and isinstance(spans[0], ExactEvent):
            return digits_to_ns([bytes(span.ts) for span in spans])  # pyright: ignore[reportArgumentType]
        return to_ns(column_of(spans, "ts", np.float64))
    except TypeError:  # both sorts: an event that began before digits were lost, and ended after
        return digits_to_ns([_digits(span) for span in spans])


def _digits(span: Event) -> bytes:
    return bytes(span.ts) if isinstance(span, ExactEvent) else repr(span.ts).encode()  # pyright: ignore[reportArgumentType]


def column_of(items: Sequence[Any], name: str, dtype: type[Any]) -> NDArray[Any]:
    return np.fromiter(map(attrgetter(name), items), dtype, len(items))


def _texts(args: Sequence[Args], name: str) -> list[str] | None:
    """An argument of every event; None where all lack it, which is told quickly."""
    found: list[str] = list(map(attrgetter(name), args))
    return found if any(found) else None


def _raws(args: Sequence[Args], name: str) -> list[msgspec.Raw] | None:
    found: list[msgspec.Raw] = list(map(attrgetter(name), args))
    return found if found.count(NO_JSON) < len(found) else None


def integers(args: Sequence[Args], name: str) -> NDArray[np.int64]:
    """A column of the arguments; a number beyond int64 is as good as none."""
    try:
        return column_of(args, name, np.int64)
    except OverflowError:
        values: Iterable[int] = (getattr(item, name) for item in args)
        return np.array([v if -(2**63) <= v < 2**63 else -1 for v in values], dtype=np.int64)


def _either(first: NDArray[np.int64], args: Sequence[Args], name: str) -> NDArray[np.int64]:
    missing = np.flatnonzero(first < 0)
    if len(missing):
        first[missing] = integers([args[index] for index in missing.tolist()], name)
    return first


def _scattered(rows: NDArray[np.intp], values: NDArray[Any], count: int) -> NDArray[Any]:
    column = np.full(count, -1, dtype=values.dtype)
    column[rows] = values
    return column
