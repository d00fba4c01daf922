"""One event of a Chrome JSON trace as typed by msgspec, and the slow way in for events of other types."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from longpole.importers.json_repair import loads_leniently

if TYPE_CHECKING:
    from collections.abc import Mapping

INT64_MAX = 2**63 - 1
NO_JSON = msgspec.Raw(b"")  # one object for every absent text: told by identity, quickly


class Args(msgspec.Struct, frozen=True, gc=False):
    """The arguments that end in a column; all others are skipped by the decoder without being built."""

    correlation: int = -1
    external: int = msgspec.field(name="External id", default=-1)
    external_old: int = msgspec.field(name="external id", default=-1)
    sequence: int = msgspec.field(name="Sequence number", default=-1)
    forward_thread: int = msgspec.field(name="Fwd thread id", default=-1)
    dims: msgspec.Raw = msgspec.field(name="Input Dims", default=NO_JSON)
    dims_old: msgspec.Raw = msgspec.field(name="Input dims", default=NO_JSON)
    types: msgspec.Raw = msgspec.field(name="Input type", default=NO_JSON)
    concrete: msgspec.Raw = msgspec.field(name="Concrete Inputs", default=NO_JSON)
    call_stack: str = msgspec.field(name="Call stack", default="")
    module: str = msgspec.field(name="Module Hierarchy", default="")
    awaited_record: int = msgspec.field(name="wait_on_cuda_event_record_corr_id", default=-2)
    awaited_stream: int = msgspec.field(name="wait_on_stream", default=-1)
    bytes_copied: int = msgspec.field(name="bytes", default=-1)
    collective: str = msgspec.field(name="Collective name", default="")
    message_dtype: str = msgspec.field(name="dtype", default="")
    elements_in: int = msgspec.field(name="In msg nelems", default=-1)
    elements_out: int = msgspec.field(name="Out msg nelems", default=-1)
    group_size: int = msgspec.field(name="Group size", default=-1)
    group: str = msgspec.field(name="Process Group Name", default="")
    group_description: str = msgspec.field(name="Process Group Description", default="")
    memory_bytes: int = msgspec.field(name="Bytes", default=0)
    device_type: int = msgspec.field(name="Device Type", default=-1)
    device_id: int = msgspec.field(name="Device Id", default=-1)
    total_allocated: int = msgspec.field(name="Total Allocated", default=-1)
    name: str = ""


NO_ARGS = Args()


class Event(msgspec.Struct, gc=False):
    """An event; `ts` and `dur` are microseconds."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: int | str = -1
    tid: int | str = -1
    ts: float = 0.0
    dur: float = 0.0
    id: int | str = -1
    args: Args = NO_ARGS


class ExactEvent(Event):
    """The same with the digits of `ts` as written: from 8.8e12 microseconds on, a double loses nanoseconds."""

    ts: msgspec.Raw = msgspec.Raw(b"0")  # pyright: ignore[reportIncompatibleVariableOverride]


_ONE = {exact: msgspec.json.Decoder(ExactEvent if exact else Event) for exact in (False, True)}


def event_from_text(text: bytes, *, exact: bool) -> Event | None:
    """An event that the typed decoder refused in a list; None where it cannot be made one."""
    try:
        return _ONE[exact].decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    found = loads_leniently(text)
    return event_from_fields(found, exact=exact) if isinstance(found, dict) else None


def event_from_fields(found: Mapping[str, Any], *, exact: bool) -> Event | None:
    """An event from fields of any types: what is no number where one belongs counts as absent.

    None where the event has no usable time.
    """
    start, duration = _number(found.get("ts", 0)), _number(found.get("dur", 0))
    if start is None or duration is None:
        return None
    args = found.get("args")
    values: dict[str, Any] = {
        "ph": _text(found.get("ph")),
        "cat": _text(found.get("cat")),
        "name": _text(found.get("name")),
        "pid": _identity(found.get("pid")),
        "tid": _identity(found.get("tid")),
        "dur": float(duration),
        "id": _identity(found.get("id")),
        "args": _args(args) if isinstance(args, dict) else NO_ARGS,
    }
    if exact:
        return ExactEvent(ts=msgspec.Raw(repr(start).encode()), **values)
    return Event(ts=float(start), **values)


def _args(found: Mapping[str, Any]) -> Args:
    values: dict[str, Any] = {}
    for item in msgspec.structs.fields(Args):
        if item.encode_name not in found:
            continue
        value = found[item.encode_name]
        if item.type is int:
            number = _number(value)
            values[item.name] = int(number) if number is not None else item.default
        elif item.type is str:
            values[item.name] = _text(value)
        else:
            is_json = isinstance(value, str) and value.startswith("[")  # Perfetto's exporters write dims as text
            values[item.name] = msgspec.Raw(value.encode() if is_json else msgspec.json.encode(value))
    return Args(**values)


def _number(value: Any) -> float | None:
    """A finite number of int64's size from a number or a string that spells one."""
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().lstrip("+-").isdigit() else float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value) and abs(value) <= INT64_MAX else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _identity(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value) if isinstance(value, float) else None
    return int(number) if number is not None else _text(value) if value is not None else -1
