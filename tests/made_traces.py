"""Small Kineto traces written by tests: every figure in them is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.importers import open_trace

if TYPE_CHECKING:
    from pathlib import Path

    from longpole.trace import Trace

Event = dict[str, Any]


def span(cat: str, name: str, ts: float, dur: float, pid: Any = 100, tid: Any = 1, **args: Any) -> Event:
    """A complete event; times in microseconds. `_` in argument names stands for a space."""
    return {
        "ph": "X",
        "cat": cat,
        "name": name,
        "pid": pid,
        "tid": tid,
        "ts": ts,
        "dur": dur,
        "args": {key.replace("_", " "): value for key, value in args.items()},
    }


def kernel(name: str, ts: float, dur: float, stream: int = 7, correlation: int = 0, **args: Any) -> Event:
    return span("kernel", name, ts, dur, pid=0, tid=stream, correlation=correlation, stream=stream, **args)


def runtime(name: str, ts: float, dur: float, correlation: int, **args: Any) -> Event:
    return span("cuda_runtime", name, ts, dur, correlation=correlation, **args)


def document(events: list[Event], **fields: Any) -> Event:
    return {"schemaVersion": 1, **fields, "traceEvents": events}


def write(path: Path, events: list[Event], indent: int | None = None, **fields: Any) -> Path:
    path.write_text(json.dumps(document(events, **fields), indent=indent))
    return path


def kineto_text(events: list[Event], head: str = '"schemaVersion": 1,', tail: str = '"traceName": "t.json"') -> str:
    """The layout that Kineto itself writes: events two spaces in, arguments on lines of their own."""
    parts: list[str] = []
    for event in events:
        rest = {key: value for key, value in event.items() if key != "args"}
        args = json.dumps(event.get("args", {}))[1:-1]
        parts.append(f'  {{\n    {json.dumps(rest)[1:-1]},\n    "args": {{\n      {args}\n    }}\n  }}')
    return "\n{\n  " + head + '\n  "traceEvents": [\n' + ",\n".join(parts) + "\n  ],\n  " + tail + "\n}"


def opened(path: Path, events: list[Event], **fields: Any) -> Trace:
    return open_trace(write(path / "trace.json", events, **fields))


def names(trace: Trace) -> list[str]:
    """Event names in table order."""
    return [trace.name_of(row) for row in range(len(trace.events))]


def same(one: Trace, other: Trace) -> bool:
    """Whether two traces are the same to the last row and string."""
    for table in ("events", "memory", "collectives", "waits", "calls", "samples"):
        for name in getattr(one, table).__dataclass_fields__:
            ours, theirs = getattr(getattr(one, table), name), getattr(getattr(other, table), name)
            if ours.dtype != theirs.dtype or not np.array_equal(ours, theirs):
                return False
    return (one.strings, one.lanes, one.info) == (other.strings, other.lanes, other.info)
