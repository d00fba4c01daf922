"""Lists of decoded events into columns, a list at a time; what was read is dropped before the next list comes."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    from collections.abc import Sequence

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


class KindNumbers(dict[str, int]):
    """A category as written -> its kind, SKIP for what is no event of the run."""

    def __missing__(self, word: str) -> int:
        plain = word.lower()
        self[word] = number = SKIP if plain in SPAN_OF_WHOLE_TRACE else int(KINDS.get(plain, Kind.OTHER))
        return number


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
        self._kinds = KindNumbers()
        self._shapes: dict[bytes, int] = {b"": -1}
        self._is_collective: dict[int, bool] = {}
        self._needs_values: dict[int, bool] = {}

    def add(self, spans: Sequence[Event]) -> None:
        """Appends rows; spans of unusable time or of no interest are left out and counted."""
        start, usable = starts_of(spans)
        duration, long_enough = to_ns(floats([span.dur for span in spans]))
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
        kind, names, lanes = columns["kind"], self.names, self.lanes
        args = [span.args for span in spans]
        columns["name"] = np.fromiter([names[span.name] for span in spans], np.int32, count)
        columns["lane"] = np.fromiter([lanes[span.pid, span.tid] for span in spans], np.int32, count)
        columns["correlation"] = integers([one.correlation for one in args])
        columns["external"] = _external(args)
        self._mark_collectives(kind, columns["name"])
        on_host = np.flatnonzero((kind == Kind.OP) | (kind == Kind.COLLECTIVE) | (kind == Kind.ANNOTATION))
        self._append_op_args([args[row] for row in on_host.tolist()], on_host, columns)
        copies = np.flatnonzero((kind == Kind.MEMCPY) | (kind == Kind.MEMSET))
        columns["bytes_moved"] = _scattered(copies, integers([args[r].bytes_copied for r in copies.tolist()]), count)
        self._add_collectives(args, columns["bytes_moved"])
        for row in np.flatnonzero(kind == Kind.SYNC).tolist():
            if args[row].awaited_record > -2:
                self.waits.append((self.rows + row, args[row].awaited_record, args[row].awaited_stream))
        for name, dtype in COLUMN_TYPES.items():
            self.pieces[name].append(columns[name].astype(dtype, copy=False))
        self.rows += count

    def _append_op_args(self, args: list[Args], rows: NDArray[np.intp], columns: dict[str, NDArray[Any]]) -> None:
        count = len(columns["name"])
        columns["sequence"] = _scattered(rows, integers([one.sequence for one in args]), count)
        columns["forward_thread"] = _scattered(rows, integers([one.forward_thread for one in args]), count)
        columns["forward_thread"][np.abs(columns["forward_thread"]) >= 2**31] = -1
        shapes = self._json([one.dims for one in args], [one.dims_old for one in args])
        columns["shapes"] = _scattered(rows, shapes, count)
        columns["dtypes"] = _scattered(rows, self._json([one.types for one in args]), count)
        columns["concrete"] = self._concrete(args, rows, columns["name"])
        columns["stack"] = _scattered(rows, self._stacks(args), count)

    def _stacks(self, args: list[Args]) -> NDArray[np.int32]:
        texts = [one.module or one.call_stack for one in args]
        if not any(texts):
            return np.full(len(args), -1, dtype=np.int32)
        return np.fromiter((self.names[text] if text else -1 for text in texts), np.int32, len(args))

    def _json(self, *raws: list[msgspec.Raw]) -> NDArray[np.int32]:
        """Rows of Trace.strings of JSON texts, the first that is there, made compact: layouts differ, shapes do not."""
        found = [raw for raw in raws if raw.count(NO_JSON) < len(raw)]
        if not found:
            return np.full(len(raws[0]), -1, dtype=np.int32)
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
            found = self._json([one.concrete for one in given])
            column[rows[places]] = found
        return column

    def _kinds_of(self, spans: Sequence[Event]) -> NDArray[np.uint8]:
        kinds = self._kinds
        kind = np.frombuffer(bytearray([kinds[span.cat] for span in spans]), np.uint8)
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
        for index in [index for index, given in enumerate(args) if given.collective]:
            given = args[index]
            size = message_bytes(given)
            bytes_moved[index] = size
            group = self.names[_group(given)]
            entry = (self.rows + index, self.names[given.collective], group, given.group_size, size)
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
        return to_ns(floats([span.ts for span in spans]))
    except TypeError:  # both sorts: an event that began before digits were lost, and ended after
        return digits_to_ns([_digits(span) for span in spans])


def _digits(span: Event) -> bytes:
    return bytes(span.ts) if isinstance(span, ExactEvent) else repr(span.ts).encode()  # pyright: ignore[reportArgumentType]


# Columns are read out of events by list comprehensions: the interpreter remembers where in an object an attribute
# lies, which takes 17 ns where `map(attrgetter(name), spans)` takes 36 to 58 (Python 3.11).
def floats(values: Sequence[float]) -> NDArray[np.float64]:
    return np.fromiter(values, np.float64, len(values))


def integers(values: Sequence[int]) -> NDArray[np.int64]:
    """A column; a number beyond int64 is as good as none."""
    try:
        return np.fromiter(values, np.int64, len(values))
    except OverflowError:
        return np.array([v if -(2**63) <= v < 2**63 else -1 for v in values], dtype=np.int64)


def _external(args: Sequence[Args]) -> NDArray[np.int64]:
    """External ids, under their old name where not under the new."""
    found = integers([one.external for one in args])
    missing = np.flatnonzero(found < 0)
    if len(missing):
        found[missing] = integers([args[index].external_old for index in missing.tolist()])
    return found


def _scattered(rows: NDArray[np.intp], values: NDArray[Any], count: int) -> NDArray[Any]:
    column = np.full(count, -1, dtype=values.dtype)
    column[rows] = values
    return column
