"""Raw results of torch's profiler as columns of events, on the clock of the marks.

Reading is on the script's time. Every question to an event is a call into C++, a third of a microsecond and more for
a text, so each is asked once, and texts that repeat are made once.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.capture.event_kinds import ON_DEVICE, kind_of
from longpole.trace.build import events_piece
from longpole.trace.kinds import Kind
from longpole.trace.trace import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.trace.build import Piece, TraceBuilder

NEED_VALUES = ("conv", "attention", "pool", "rnn", "lstm", "norm", "mm_backward")
ACCUMULATE = 1 << 62


def read_events(
    named: Sequence[tuple[Any, str]], builder: TraceBuilder, offset_ns: int, thread_lane: int, *, shapes: bool
) -> Piece:
    """Columns of events, given with their names.

    `offset_ns` leads from the clock of the marks to Kineto's; `thread_lane` is the lane of the training thread.
    """
    if not named:
        return events_piece({})
    events, names = zip(*named, strict=True)
    kinds = [kind_of(event) for event in events]
    texts = _Texts(builder)
    columns: dict[str, Any] = {
        "start_ns": [event.start_ns() - offset_ns for event in events],
        "duration_ns": [max(event.duration_ns(), 0) for event in events],
        "name": [texts.plain(name) for name in names],
        "kind": kinds,
        "lane": _lanes(events, kinds, builder, thread_lane),
        "correlation": [_correlation(*found) for found in zip(events, kinds, strict=True)],
        "sequence": [_sequence(event) if kind == Kind.OP else -1 for event, kind in zip(events, kinds, strict=True)],
        "forward_thread": [
            event.fwd_thread_id() if kind == Kind.OP else -1 for event, kind in zip(events, kinds, strict=True)
        ],
    }
    if shapes:
        columns["shapes"] = [texts.plain(str(event.shapes()).replace(" ", "")) for event in events]
        columns["dtypes"] = [texts.dtypes(event.dtypes()) for event in events]
        columns["concrete"] = [texts.values(event, name) for event, name in zip(events, names, strict=True)]
    return events_piece({name: np.asarray(column) for name, column in columns.items()})


def _correlation(event: Any, kind: Kind) -> int:
    is_linked = kind in ON_DEVICE or kind == Kind.RUNTIME
    return event.linked_correlation_id() if is_linked else event.correlation_id()


def _sequence(event: Any) -> int:
    """AccumulateGrad has the largest number there is, so that it runs first; it is no place in the order."""
    found = event.sequence_nr()
    return found if found < ACCUMULATE else -1


class _Texts:
    """Rows of texts in the builder's table. They repeat thousands of times: it is asked once for each."""

    def __init__(self, builder: TraceBuilder) -> None:
        self._builder = builder
        self._plain: dict[str, int] = {}
        self._dtypes: dict[tuple[str, ...], int] = {}
        self._has_values: dict[str, bool] = {}

    def plain(self, text: str) -> int:
        found = self._plain.get(text)
        if found is None:
            found = self._plain[text] = self._builder.intern(text)
        return found

    def dtypes(self, dtypes: Sequence[str]) -> int:
        key = tuple(dtypes)
        found = self._dtypes.get(key)
        if found is None:
            found = self._dtypes[key] = self._builder.intern(json.dumps(dtypes))
        return found

    def values(self, event: Any, name: str) -> int:
        """Strides, paddings, flags: only for the ops whose cost depends on them, since reading them is slow."""
        is_wanted = self._has_values.get(name)
        if is_wanted is None:
            is_wanted = self._has_values[name] = any(part in name for part in NEED_VALUES)
        if not is_wanted:
            return -1
        known = [value if isinstance(value, (bool, int, float, list)) else "" for value in event.concrete_inputs()]
        return self.plain(json.dumps(known))


def _lanes(events: Sequence[Any], kinds: Sequence[Kind], builder: TraceBuilder, thread_lane: int) -> list[int]:
    """The lane of each: the training thread's, or one for each other thread and each stream of a device."""
    threads = [
        (event.device_index(), event.device_resource_id()) if kind in ON_DEVICE else (-1, event.start_thread_id())
        for event, kind in zip(events, kinds, strict=True)
    ]
    busiest = _busiest_thread(events)
    rows = {} if busiest is None else {(-1, busiest): thread_lane}
    for device, thread in dict.fromkeys(threads):
        if (device, thread) not in rows:
            name, kind = (f"stream {thread}", "stream") if device >= 0 else (f"thread {thread}", "host")
            rows[device, thread] = builder.lane(Lane(name, kind, os.getpid(), thread, device))
    return [rows[found] for found in threads]


def _busiest_thread(events: Sequence[Any]) -> int | None:
    """The training thread: Kineto numbers threads in its own way, and it is the one with the ops."""
    counts = Counter(
        event.start_thread_id() for event in events if event.sequence_nr() >= 0 and event.fwd_thread_id() == 0
    )
    return counts.most_common(1)[0][0] if counts else None
