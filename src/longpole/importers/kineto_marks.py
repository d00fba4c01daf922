"""Events of a Kineto trace that are no spans: flows, memory, names of threads, separate begins and ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from longpole.importers.codes import Identity, plain_identity
from longpole.importers.kineto_columns import integers, starts_of
from longpole.importers.kineto_event import Event, ExactEvent
from longpole.importers.kineto_kinds import GRADIENT_FLOWS, LAUNCH_FLOWS
from longpole.importers.timestamps import digits_to_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from longpole.importers.codes import LaneCodes

MEMORY = "[memory]"
HOST_DEVICE_TYPE = 0  # c10::DeviceType::CPU (github.com/pytorch/pytorch, c10/core/DeviceType.h)


@dataclass
class Flows:
    """Arrows of one sort: the ends that start and the ends that finish, by id."""

    starts: dict[Identity, tuple[int, int]] = field(default_factory=dict)  # id -> (lane, ns)
    finishes: list[tuple[Identity, int, int]] = field(default_factory=list)  # (id, lane, ns)

    def add(self, event: Event, lane: int, time_ns: int) -> None:
        if event.ph == "s":
            self.starts[event.id] = (lane, time_ns)
        else:
            self.finishes.append((event.id, lane, time_ns))

    def extend(self, more: Flows, lanes: Sequence[int]) -> None:
        """Adds arrows from further on in the file; `lanes` are the rows here of the lanes there."""
        self.starts.update({name: (lanes[lane], time) for name, (lane, time) in more.starts.items()})
        self.finishes += [(name, lanes[lane], time) for name, lane, time in more.finishes]


@dataclass
class Marks:
    """Everything but spans, so far."""

    lanes: LaneCodes
    launch_flows: Flows | None = field(default_factory=Flows)  # None once correlation ids are known to do
    gradient_flows: Flows = field(default_factory=Flows)
    memory: list[NDArray[np.int64]] = field(default_factory=list)  # each 4 rows: ns, bytes, device, total allocated
    process_names: dict[Identity, str] = field(default_factory=dict)
    thread_names: dict[int, str] = field(default_factory=dict)  # by lane
    open_spans: dict[int, list[Event]] = field(default_factory=dict)  # by lane: begun and not yet ended
    unmatched: int = 0
    halves: bool = False  # whether there were begins or ends at all

    @property
    def unwanted(self) -> frozenset[str]:
        """Categories of marks that need not be added: a third of the events of many traces are such arrows."""
        return LAUNCH_FLOWS if self.launch_flows is None else frozenset()

    def add(self, events: Iterable[Event]) -> list[Event]:
        """Takes events that are no spans; returns spans made of begins and ends."""
        spans: list[Event] = []
        memory: list[Event] = []
        for event in events:
            phase = event.ph
            if phase in ("s", "f"):
                self._add_flow(event)
            elif phase in ("i", "I"):
                if event.name == MEMORY:
                    memory.append(event)
            elif phase == "M":
                self._add_name(event)
            elif phase in ("B", "E"):
                self._add_half(event, spans)
        self._add_memory(memory)
        return spans

    def _add_flow(self, event: Event) -> None:
        word = event.cat or event.name
        flows = self.gradient_flows if word in GRADIENT_FLOWS else self.launch_flows if word in LAUNCH_FLOWS else None
        if flows is not None:
            flows.add(event, self.lanes[event.pid, event.tid], time_of(event))

    def _add_memory(self, events: list[Event]) -> None:
        if not events:
            return
        times, usable = starts_of(events)
        args = [event.args for event in events]
        size, sort = integers([one.memory_bytes for one in args]), integers([one.device_type for one in args])
        device, total = integers([one.device_id for one in args]), integers([one.total_allocated for one in args])
        device[sort <= HOST_DEVICE_TYPE] = -1
        self.memory.append(np.stack([np.where(usable, times, 0), size, device, total]))

    def _add_name(self, event: Event) -> None:
        if event.name == "process_name":
            self.process_names[plain_identity(event.pid)] = event.args.name
        elif event.name == "thread_name":
            self.thread_names[self.lanes[event.pid, event.tid]] = event.args.name

    def _add_half(self, event: Event, spans: list[Event]) -> None:
        self.halves = True
        begun = self.open_spans.setdefault(self.lanes[event.pid, event.tid], [])
        if event.ph == "B":
            begun.append(_kept(event))
        elif begun:
            span = begun.pop()
            span.ph, span.dur = "X", (time_of(event) - time_of(span)) / 1000
            spans.append(span)
        else:
            self.unmatched += 1


def _kept(event: Event) -> Event:
    """The event with copies of what looks into the window of text that it was read from."""
    args = event.args
    raws = {name: getattr(args, name).copy() for name in ("dims", "dims_old", "types", "concrete")}
    event.args = msgspec.structs.replace(args, **raws)
    if isinstance(event, ExactEvent):
        event.ts = event.ts.copy()
    return event


def time_of(event: Event) -> int:
    """Nanoseconds of one event; 0 where the trace has no usable time."""
    found: tuple[NDArray[np.int64], NDArray[np.bool_]]
    if isinstance(event, ExactEvent):
        found = digits_to_ns([bytes(event.ts)])  # pyright: ignore[reportArgumentType]
        return int(found[0][0])
    ts = event.ts
    if not abs(ts) < 9.2e15:
        return 0
    whole = int(ts // 1)
    return whole * 1000 + round((ts - whole) * 1000)
