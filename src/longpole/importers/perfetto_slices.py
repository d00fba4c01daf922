"""Track events of a Perfetto protobuf trace as slices: names uninterned, clocks resolved, begins joined to ends.

Field numbers: protos/perfetto/trace/*.proto of github.com/google/perfetto (Apache-2.0). How PyTorch writes them
(all begins of a group of events, then all their ends): torch/csrc/profiler/cupti/monitor_pftrace.cpp of
github.com/pytorch/pytorch.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from longpole.importers.protobuf import TruncatedError, Value, double, fields, signed, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEGIN, END = 1, 2
INTERNED = {1: "category", 2: "name", 3: "annotation", 24: "stage", 29: "string"}  # fields of InternedData
CLEARED = 1  # TracePacket.sequence_flags
FIRST_OWN_CLOCK = 64  # below are clocks of the system, above those of one sequence
INFLATED_LIMIT = 256 << 20


@dataclass
class Track:
    """A thread, a process or something inside one."""

    name: str = ""
    process: int | None = None
    thread: int | None = None
    parent: int = 0


@dataclass
class Slice:
    """A piece of work on a track; `end_ns` is None until its end is known."""

    track: int
    start_ns: int
    name: str
    category: str
    args: dict[str, Any]
    end_ns: int | None = None
    device: int | None = None  # of GPU render stage events, which have no track
    queue: int = 0


@dataclass
class Sequence:
    """What one writer of packets has defined so far."""

    interned: dict[tuple[str, int], str] = field(default_factory=dict)
    default_track: int = 0
    default_clock: int = 0
    clocks: dict[int, tuple[int, int, bool]] = field(default_factory=dict)  # id -> (ns so far, multiplier, increments)
    marks: list[tuple[int, int, Slice | None]] = field(default_factory=list)  # (ns, track, begun; None is an end)


@dataclass
class Packets:
    """All packets read so far."""

    tracks: dict[int, Track] = field(default_factory=dict)
    sequences: dict[int, Sequence] = field(default_factory=dict)
    stages: list[Slice] = field(default_factory=list)
    damaged: int = 0

    def add(self, packet: bytes, depth: int = 0) -> None:
        """Takes one TracePacket; one that cannot be read is counted and left out."""
        try:
            self._add(packet, depth)
        except (TruncatedError, zlib.error):
            self.damaged += 1

    def _add(self, packet: bytes, depth: int) -> None:
        parts: dict[int, Value] = dict(fields(packet))
        if 50 in parts and depth == 0:  # compressed_packets: a whole Trace, deflated
            for packed in (value for number, value in fields(packet) if number == 50):
                self._add_compressed(packed)
            return
        sequence = self.sequences.setdefault(_int(parts.get(10, 0)), Sequence())
        if _int(parts.get(13, 0)) & CLEARED:
            sequence.interned.clear()
        if 59 in parts:
            _set_defaults(sequence, _bytes(parts[59]))
        if 6 in parts:
            _set_clocks(sequence, _bytes(parts[6]))
        if 12 in parts:
            _intern(sequence, _bytes(parts[12]))
        if 60 in parts:
            self._add_track(_bytes(parts[60]))
        if 11 in parts or 53 in parts:
            time = _time(sequence, _int(parts.get(8, 0)), _int(parts.get(58, sequence.default_clock)))
            if 11 in parts:
                _add_event(sequence, _bytes(parts[11]), time)
            else:
                self._add_stage(sequence, _bytes(parts[53]), time)

    def _add_compressed(self, packed: Value) -> None:
        inflate = zlib.decompressobj()
        for number, value in fields(inflate.decompress(_bytes(packed), INFLATED_LIMIT)):
            if number == 1:
                self.add(_bytes(value), depth=1)

    def _add_track(self, data: bytes) -> None:
        track, uuid = Track(), 0
        for number, value in fields(data):
            if number == 1:
                uuid = _int(value)
            elif number in (2, 10, 13):  # name, static_name, atrace_name
                track.name = track.name or text(value)
            elif number == 5:
                track.parent = _int(value)
            elif number == 3:  # ProcessDescriptor: pid 1, process_name 6
                parts = dict(fields(_bytes(value)))
                track.process = _int32(parts.get(1, 0))
                track.name = track.name or text(parts.get(6, b""))
            elif number == 4:  # ThreadDescriptor: pid 1, tid 2, thread_name 5
                parts = dict(fields(_bytes(value)))
                track.process, track.thread = _int32(parts.get(1, 0)), signed(_int(parts.get(2, 0)))
                track.name = track.name or text(parts.get(5, b""))
        self.tracks[uuid] = track

    def _add_stage(self, sequence: Sequence, data: bytes, time: int) -> None:
        """A GpuRenderStageEvent: newer exporters write kernels as these."""
        parts = dict(fields(data))
        if 2 not in parts:
            return
        extra = [dict(fields(_bytes(value))) for number, value in fields(data) if number == 6]
        args: dict[str, Any] = {text(pair.get(1, b"")): _number(text(pair.get(2, b""))) for pair in extra}
        stage = sequence.interned.get(("stage", _int(parts.get(14, 0))), "")
        name = text(parts.get(17, b"")) or sequence.interned.get(("name", _int(parts.get(20, 0))), "") or stage
        self.stages.append(
            Slice(
                track=0,
                start_ns=time,
                name=name,
                category="",
                args=args,
                end_ns=time + _int(parts[2]),
                device=_int32(parts.get(11, 0)),
                queue=_int(parts.get(13, parts.get(3, 0))),
            )
        )

    def slices(self) -> list[Slice]:
        """Every slice that has an end, in order of start."""
        found = [*self.stages, *(one for sequence in self.sequences.values() for one in joined(sequence.marks))]
        return sorted(found, key=lambda one: one.start_ns)


def joined(marks: list[tuple[int, int, Slice | None]]) -> Iterator[Slice]:
    """Joins begins to ends, in whichever way the writer wrote them.

    In order of time, an end belongs to the innermost open slice of its track. A writer that goes back in time
    and ends as many slices as it had begun, on the same tracks, ends the first first.
    """
    in_time = all(one[0] <= other[0] for one, other in pairwise(marks))
    runs = [list(run) for _, run in groupby(marks, key=lambda mark: mark[2] is not None)]
    if not in_time and _pairs_up(runs):
        for begins, ends in zip(runs[::2], runs[1::2], strict=False):
            for (_, _, begun), (end, _, _) in zip(begins, ends, strict=True):
                if begun is not None:
                    begun.end_ns = end
                    yield begun
        return
    stacks: dict[int, list[Slice]] = {}
    for time, track, begun in marks if in_time else sorted(marks, key=lambda mark: mark[0]):
        stack = stacks.setdefault(track, [])
        if begun is not None:
            stack.append(begun)
        elif stack:
            done = stack.pop()
            done.end_ns = time
            yield done


def _pairs_up(runs: list[list[tuple[int, int, Slice | None]]]) -> bool:
    if len(runs) % 2 or runs[0][0][2] is None:
        return False
    return all(
        len(begins) == len(ends) and all(b[1] == e[1] and b[0] <= e[0] for b, e in zip(begins, ends, strict=True))
        for begins, ends in zip(runs[::2], runs[1::2], strict=True)
    )


def _add_event(sequence: Sequence, data: bytes, time: int) -> None:
    parts = list(fields(data))
    by_number = dict(parts)
    kind = by_number.get(9, 0)
    track = _int(by_number.get(11, sequence.default_track))
    if kind == END:
        sequence.marks.append((time, track, None))
    if kind != BEGIN:
        return
    name = text(by_number.get(23, b"")) or sequence.interned.get(("name", _int(by_number.get(10, 0))), "")
    category = text(by_number.get(22, b"")) or sequence.interned.get(("category", _int(by_number.get(3, 0))), "")
    args = dict(_annotation(sequence, _bytes(value)) for number, value in parts if number == 4)
    sequence.marks.append((time, track, Slice(track, time, name, category, args)))


def _annotation(sequence: Sequence, data: bytes) -> tuple[str, Any]:
    """(name, value) of a DebugAnnotation; arrays and dictionaries as such."""
    name, value = "", None
    items: list[Any] = []
    entries: dict[str, Any] = {}
    for number, held in fields(data):
        if number in PLAIN:
            value = PLAIN[number](held)
        elif number == 11:
            entries.update([_annotation(sequence, _bytes(held))])
        elif number == 12:
            items.append(_annotation(sequence, _bytes(held))[1])
        elif number == 17:
            value = sequence.interned.get(("string", _int(held)), "")
        elif number in (1, 10):
            name = text(held) if number == 10 else sequence.interned.get(("annotation", _int(held)), "")
    return name, value if value is not None else entries or items


def _intern(sequence: Sequence, data: bytes) -> None:
    for number, value in fields(data):
        if number in INTERNED:
            parts = dict(fields(_bytes(value)))
            sequence.interned[INTERNED[number], _int(parts.get(1, 0))] = text(parts.get(2, b""))


def _set_defaults(sequence: Sequence, data: bytes) -> None:
    """TracePacketDefaults: timestamp_clock_id 58, track_event_defaults 11 (track_uuid 11)."""
    parts = dict(fields(data))
    sequence.default_clock = _int(parts.get(58, sequence.default_clock))
    if 11 in parts:
        sequence.default_track = _int(dict(fields(_bytes(parts[11]))).get(11, sequence.default_track))


def _set_clocks(sequence: Sequence, data: bytes) -> None:
    """ClockSnapshot: clocks 1 (clock_id 1, timestamp 2, is_incremental 3, unit_multiplier_ns 4)."""
    readings = [dict(fields(_bytes(value))) for number, value in fields(data) if number == 1]
    system = [_int(r.get(2, 0)) for r in readings if _int(r.get(1, 0)) < FIRST_OWN_CLOCK]
    for reading in readings:
        clock = _int(reading.get(1, 0))
        if clock >= FIRST_OWN_CLOCK:
            unit = _int(reading.get(4, 1)) or 1
            increments = bool(reading.get(3, 0))
            own = _int(reading.get(2, 0)) * unit
            base = system[0] if system else own
            sequence.clocks[clock] = (base if increments else base - own, unit, increments)


def _time(sequence: Sequence, stamp: int, clock: int) -> int:
    """Nanoseconds of a packet's timestamp; an incrementing clock moves on with it."""
    if clock not in sequence.clocks:
        return stamp
    base, unit, increments = sequence.clocks[clock]
    time = base + stamp * unit
    if increments:
        sequence.clocks[clock] = (time, unit, increments)
    return time


def _number(value: str) -> int | str:
    return int(value) if value.lstrip("-").isdecimal() and len(value) < 19 else value


def _int(value: Value) -> int:
    if isinstance(value, bytes):
        raise TruncatedError
    return value


def _int32(value: Value) -> int:
    number = signed(_int(value))
    return number if abs(number) < 2**31 else -1


def _bytes(value: Value) -> bytes:
    if isinstance(value, int):
        raise TruncatedError
    return value


# How each field of a DebugAnnotation that holds a plain value is read.
PLAIN: dict[int, Callable[[Value], Any]] = {
    2: bool,
    3: _int,
    4: lambda value: signed(_int(value)),
    5: lambda value: double(_int(value)),
    6: text,
    7: _int,
    9: text,
}
