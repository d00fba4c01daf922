"""Events of Chrome's trace format as text, a function for each kind of event.

The format: "Trace Event Format" (docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU). Times are
microseconds with three decimals: exact nanoseconds. `args` is JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def encodable(text: str) -> str:
    """Without halves of surrogate pairs, which JSON in UTF-8 cannot carry."""
    return text.encode("utf-8", "replace").decode("utf-8")


def as_json(value: Any) -> str:
    return msgspec.json.encode(encodable(value) if isinstance(value, str) else value).decode("utf-8")


def microseconds(ns: int) -> str:
    """Nanoseconds as microseconds with three decimals, exactly."""
    sign, size = ("-", -ns) if ns < 0 else ("", ns)
    return f"{sign}{size // 1000}.{size % 1000:03d}"


def metadata(name: str, process: int, thread: int, args: Mapping[str, Any]) -> bytes:
    """A name or a place in the order, of a process or a thread."""
    return f'{{"ph":"M","name":"{name}","pid":{process},"tid":{thread},"ts":0,"args":{as_json(args)}}}'.encode()


def complete(category: str, name: str, process: int, thread: int, start_ns: int, duration_ns: int, args: str) -> bytes:
    """What has a start and a length; those of one thread nest."""
    return (
        f'{{"ph":"X","cat":"{category}","name":{as_json(name)},"pid":{process},"tid":{thread},'
        f'"ts":{microseconds(start_ns)},"dur":{microseconds(duration_ns)},"args":{args}}}'
    ).encode()


def counter(name: str, process: int, time_ns: int, values: Mapping[str, int]) -> bytes:
    """Values from a moment on; several are stacked."""
    return (
        f'{{"ph":"C","name":"{name}","pid":{process},"ts":{microseconds(time_ns)},"args":{as_json(values)}}}'.encode()
    )


def asynchronous(
    category: str, name: str, number: int, process: int, thread: int, start_ns: int, end_ns: int, args: str
) -> Iterator[bytes]:
    """The two ends of what may overlap others of its thread; `number` joins them."""
    same = f'"cat":"{category}","name":{as_json(name)},"id":{number},"pid":{process},"tid":{thread}'
    yield f'{{"ph":"b",{same},"ts":{microseconds(start_ns)},"args":{args}}}'.encode()
    yield f'{{"ph":"e",{same},"ts":{microseconds(end_ns)}}}'.encode()


def flow(category: str, number: int, process: int, thread: int, time_ns: int, *, is_end: bool) -> bytes:
    """One end of an arrow; `number` joins both. An arrow ends at what stands round the moment ("bp": "e")."""
    letter, bound = ("f", ',"bp":"e"') if is_end else ("s", "")
    return (
        f'{{"ph":"{letter}","cat":"{category}","name":"{category}","id":{number},"pid":{process},'
        f'"tid":{thread},"ts":{microseconds(time_ns)}{bound}}}'
    ).encode()


def instant(category: str, name: str, process: int, time_ns: int, args: str) -> bytes:
    """A moment, on thread 0 of a process."""
    return (
        f'{{"ph":"i","cat":"{category}","s":"t","name":"{name}","pid":{process},"tid":0,'
        f'"ts":{microseconds(time_ns)},"args":{args}}}'
    ).encode()
