"""Reads PyTorch's native Perfetto export (`.pftrace`) by turning its slices into the events of a Kineto trace."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from longpole.errors import LongpoleError
from longpole.importers.json_events import Outside
from longpole.importers.kineto import Reading
from longpole.importers.kineto_event import Event, event_from_fields
from longpole.importers.kineto_kinds import KINDS
from longpole.importers.kineto_trace import trace_of
from longpole.importers.part import part_of
from longpole.importers.perfetto_slices import Packets, Slice, Track
from longpole.importers.protobuf import TruncatedError, varint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from longpole.importers.source import Source
    from longpole.trace import Trace

PACKET_TAG = 0x0A  # Trace.packet: field 1, bytes
PIECE_BYTES = 4 << 20
PACKET_LIMIT = 256 << 20
BATCH = 20_000
STREAM = re.compile(r"stream\s+(-?\d+)", re.IGNORECASE)
HOST_CALL = re.compile(r"(?:cuda|hip|hsa|cu|zeCommand|ur)[A-Z]\w*")
PYTHON_FRAME = re.compile(r".+\(\d+\): .+|<built-in .+|nn\.Module: .+")


def sniff(head: bytes) -> bool:
    """Whether a file that starts so may be a Perfetto trace: a packet of a length that leads to another packet."""
    if not head or head[0] != PACKET_TAG:
        return False
    try:
        size, at = varint(head, 1)
    except TruncatedError:
        return False
    return at + size >= len(head) or head[at + size] == PACKET_TAG


def read(source: Source) -> Trace:
    """The trace of a Perfetto file; raises LongpoleError where it holds no slice."""
    packets, outside = Packets(), Outside()
    for packet in _packets(source, outside):
        packets.add(packet)
    reading = Reading(exact=True)
    slices = iter(packets.slices())
    while batch := list(islice(slices, BATCH)):
        events = [_event(one, packets.tracks) for one in batch]
        reading.add([event for event in events if event is not None])
    if packets.damaged:
        outside.notes.append(f"{packets.damaged} packets could not be decoded and were left out.")
    if not reading.seen:
        raise LongpoleError(f"{source.path} is a Perfetto trace without track events; open what torch.profiler wrote")
    return trace_of(source.path, part_of(reading), outside, kind="perfetto")


def _packets(source: Source, outside: Outside) -> Iterator[bytes]:
    """TracePackets one by one; a file cut off in the middle of one ends before it, and says so."""
    text, at = b"", 0
    while True:
        end = _end_of_packet(text, at)
        if end is not None and end <= len(text):
            start, stop = _body(text, at, end)
            if text[at] == PACKET_TAG:
                yield text[start:stop]
            at = end
            continue
        more = source.read(PIECE_BYTES)
        text, at = text[at:] + more, 0
        if not more:
            break
        if len(text) > PACKET_LIMIT:
            outside.notes.append("A packet is larger than 256 MB, or the file is damaged there: the rest was left out.")
            return
    if text or source.cut:
        reason = source.cut or "its last packet is not whole"
        outside.notes.append(f"The file is cut off: {reason}. Everything before the cut was used.")


def _end_of_packet(text: bytes, at: int) -> int | None:
    try:
        size, start = varint(text, at + 1)
    except TruncatedError:
        return None
    return start + size


def _body(text: bytes, at: int, end: int) -> tuple[int, int]:
    return varint(text, at + 1)[1], end


def _event(one: Slice, tracks: dict[int, Track]) -> Event | None:
    """The slice as an event of a Kineto trace; None where its times are unusable."""
    if one.end_ns is None:
        return None
    process, thread, names = _place(one, tracks)
    found = {
        "ph": "X",
        "cat": _category(one, names),
        "name": one.name,
        "pid": process,
        "tid": thread,
        "ts": 0,
        "dur": (one.end_ns - one.start_ns) / 1000,
        "args": one.args,
    }
    event = event_from_fields(found, exact=True)
    if event is not None:
        stamp = f"{one.start_ns // 1000}.{one.start_ns % 1000:03d}"
        event.ts = msgspec.Raw(stamp.encode())  # pyright: ignore[reportAttributeAccessIssue]
    return event


def _place(one: Slice, tracks: dict[int, Track]) -> tuple[int | str, int | str, str]:
    """(process, thread, the names of the track and those above it)."""
    args = one.args
    if one.device is not None:
        return args.get("device", one.device), args.get("stream", one.queue), "stream"
    process = thread = None
    names: list[str] = []
    uuid, seen = one.track, set[int]()
    while uuid in tracks and uuid not in seen:
        seen.add(uuid)
        track = tracks[uuid]
        names.append(track.name)
        process = track.process if process is None else process
        thread = track.thread if thread is None else thread
        uuid = track.parent
    stream = STREAM.search(" ".join(names))
    if thread is None:
        thread = int(stream.group(1)) if stream else one.track
    if process is None:
        process = args.get("device", -1)
    return process, thread, " ".join(names)


def _category(one: Slice, names: str) -> str:
    """The slice's category; where the writer gave none, what its name, place and arguments say it is."""
    args: dict[str, Any] = one.args
    if one.category.lower() in KINDS or one.category.lower() == "trace":
        return one.category
    on_stream = STREAM.search(names) is not None
    if one.device is not None or "grid" in args or "registers per thread" in args:
        return _device_category(one.name)
    if on_stream and "sync" in one.name.lower():
        return "cuda_sync"
    if on_stream:
        return _device_category(one.name) if "correlation" in args or "bytes" in args else "gpu_user_annotation"
    return _host_category(one.name, args)


def _host_category(name: str, args: dict[str, Any]) -> str:
    if HOST_CALL.fullmatch(name) and ("cbid" in args or "correlation" in args):
        return "cuda_runtime"
    if PYTHON_FRAME.fullmatch(name):
        return "python_function"
    return "user_annotation" if name.startswith(("ProfilerStep#", "Optimizer.")) or not args else "cpu_op"


def _device_category(name: str) -> str:
    lower = name.lower()
    return "gpu_memcpy" if lower.startswith("memcpy") else "gpu_memset" if lower.startswith("memset") else "kernel"
