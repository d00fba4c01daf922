"""The arguments of a timeline's events: what Kineto calls them, and what longpole knows beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from longpole.report.chrome_events import encodable
from longpole.trace import DEVICE_WORK, Kind, Phase, Role, label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from longpole.report.perfetto_part import Part
    from longpole.trace import EventTable, Trace


class Arguments:
    """The arguments of each event under Kineto's names, and what longpole knows beside them."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._trace = part.trace
        self._correlation = joined(part.trace.events)
        self._inherited = inherited(part.trace)
        self._collectives = _collective_args(part.trace)

    def of(self, row: int) -> dict[str, Any]:
        events, kind = self._trace.events, int(self._trace.events.kind[row])
        args: dict[str, Any] = {}
        if kind in (Kind.OP, Kind.ANNOTATION, Kind.COLLECTIVE, Kind.PYTHON):
            self._add(args, "External id", events.correlation[row])
            self._add(args, "Sequence number", events.sequence[row])
            self._add(args, "Fwd thread id", events.forward_thread[row])
            self._add_texts(args, row)
        elif kind in (Kind.RUNTIME, *DEVICE_WORK, Kind.SYNC, Kind.DEVICE_ANNOTATION):
            self._add(args, "correlation", self._correlation[row])
            lane = self._trace.lanes[int(events.lane[row])]
            if lane.device >= 0:
                args |= {"device": lane.device, "stream": lane.thread}
        self._add(args, "bytes", events.bytes_moved[row])
        return args | self._concluded(row)

    def _add_texts(self, args: dict[str, Any], row: int) -> None:
        events, text = self._trace.events, self._trace.text
        if events.shapes[row] >= 0:
            args["Input Dims"] = _shapes(text(int(events.shapes[row])))
        if events.dtypes[row] >= 0:
            args["Input type"] = _shapes(text(int(events.dtypes[row])))
        if events.stack[row] >= 0:
            args["Call stack"] = encodable(text(int(events.stack[row])))
        if row in self._collectives:
            args |= self._collectives[row]

    def _add(self, args: dict[str, Any], name: str, value: Any) -> None:
        if value >= 0:
            args[name] = int(value)

    def _concluded(self, row: int) -> dict[str, str]:
        """Phase, layer and role: by analysis where it was given, else by what stands round the event."""
        found, trace = self._part.attributed, self._trace
        if found is None:
            phase, layer = (self._inherited[k][row] for k in (0, 1))
            named = {
                "phase": trace.name_of(phase) if phase >= 0 else "",
                "layer": trace.name_of(layer) if layer >= 0 else "",
            }
        else:
            layer = int(found.layer[row])
            phase, role = Phase(max(int(found.phase[row]), 0)), Role(max(int(found.role[row]), 0))
            named = {
                "phase": label(phase) if phase != Phase.NOBODY else "",
                "layer": trace.layers[layer].path if layer >= 0 else "",
                "role": label(role) if role != Role.NONE else "",
            }
        return {key: encodable(value) for key, value in named.items() if value}


def _collective_args(trace: Trace) -> dict[int, dict[str, Any]]:
    """Arguments of each collective, by row."""
    table = trace.collectives
    columns = (table.row, table.operation, table.group, table.ranks)
    return {
        row: {
            "Collective name": encodable(trace.text(operation)),
            "Process Group Name": encodable(trace.text(group)),
            "Group size": ranks,
        }
        for row, operation, group, ranks in zip(*(column.tolist() for column in columns), strict=True)
    }


def joined(events: EventTable) -> NDArray[np.int64]:
    """Correlation ids by which readers join launches and device work.

    A pair that was joined otherwise gets an id of its own, above all that are there.
    """
    found = events.correlation.copy()
    device = events.rows_of(*DEVICE_WORK)
    pairs = device[(events.launch[device] >= 0) & (found[device] < 0)]
    runtime = pairs[events.kind[events.launch[pairs]] == Kind.RUNTIME]
    first = int(found.max(initial=0)) + 1
    for number, row in enumerate(runtime.tolist(), start=first):
        launch = int(events.launch[row])
        if found[launch] < 0:
            found[launch] = number
        found[row] = found[launch]
    return found


def inherited(trace: Trace) -> tuple[list[int], list[int]]:
    """For each event the row of the phase mark and of the layer mark round it; -1 where there is none."""
    events = trace.events
    kinds, parents = events.kind.tolist(), events.parent.tolist()
    phase, layer = [-1] * len(kinds), [-1] * len(kinds)
    for row, parent in enumerate(parents):
        if 0 <= parent < row:  # sorted by start, so a parent's row comes first
            phase[row] = parent if kinds[parent] == Kind.PHASE else phase[parent]
            layer[row] = parent if kinds[parent] == Kind.LAYER else layer[parent]
    return phase, layer


def _shapes(text: str) -> Any:
    """Shapes are JSON in the trace; what is no JSON goes out as a string."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return encodable(text)
