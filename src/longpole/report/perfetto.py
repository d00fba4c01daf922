"""The timeline as a Chrome trace that ui.perfetto.dev opens and that tools for Kineto files read.

Category words, argument names and top-level fields are Kineto's (github.com/pytorch/kineto,
libkineto/src/output_json.cpp); steps, phases and layers stand on lanes of their own, as spans of category
`Trace`, which readers of Kineto files pass over. Times are microseconds with three decimals: exact nanoseconds.
"""

from __future__ import annotations

import base64
import gzip
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

import msgspec

from longpole.analysis.memory_clock import StepClock
from longpole.analysis.memory_inside import watched_step
from longpole.analysis.memory_ledger import ledger_of
from longpole.analysis.memory_results import HOLDERS
from longpole.errors import LongpoleError
from longpole.trace import DEVICE_WORK, Kind, Level, Phase, Role, label
from longpole.trace.store import dump

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from longpole.trace import EventTable, Trace

CATEGORIES: Mapping[int, str] = {
    Kind.OP: "cpu_op",
    Kind.KERNEL: "kernel",
    Kind.MEMCPY: "gpu_memcpy",
    Kind.MEMSET: "gpu_memset",
    Kind.RUNTIME: "cuda_runtime",
    Kind.SYNC: "cuda_sync",
    Kind.ANNOTATION: "user_annotation",
    Kind.DEVICE_ANNOTATION: "gpu_user_annotation",
    Kind.PYTHON: "python_function",
    Kind.COLLECTIVE: "cpu_op",
    Kind.OTHER: "overhead",
}
MARKS = "Trace"  # the category of lanes that are longpole's own
STEP_LANE, PHASE_LANE, LAYER_LANE = 1, 2, 3
# Process numbers that no host process or device has: Linux counts processes to 2^22 at most (proc(5), pid_max).
RANK_STRIDE, MARKS_PROCESS, NAMELESS_PROCESS = 100_000_000, 90_000_000, 90_000_001
NAMELESS_THREAD = 900_000_000


class Attributed(Protocol):
    """What analysis concluded of each event, an array each with as many rows as the event table; -1 is nothing."""

    @property
    def phase(self) -> NDArray[Any]: ...  # longpole.trace.kinds.Phase

    @property
    def layer(self) -> NDArray[Any]: ...  # row of Trace.layers, -1 for none

    @property
    def role(self) -> NDArray[Any]: ...  # longpole.trace.kinds.Role


@dataclass(frozen=True, slots=True)
class _Part:
    """One trace of the file and the numbers that keep it apart from the others."""

    trace: Trace
    place: int  # 0 for the first trace
    attributed: Attributed | None

    def process(self, lane: int) -> int:
        found = self.trace.lanes[lane]
        own = found.device if found.device >= 0 else found.process if found.process >= 0 else NAMELESS_PROCESS
        return own + self.place * RANK_STRIDE

    def thread(self, lane: int) -> int:
        own = self.trace.lanes[lane].thread
        return own if own >= 0 else NAMELESS_THREAD + lane

    @property
    def marks(self) -> int:
        return MARKS_PROCESS + self.place * RANK_STRIDE


def write_perfetto(
    traces: Sequence[Trace], path: Path, attributions: Sequence[Attributed | None] | None = None
) -> None:
    """Writes one file with all traces, compressed where `path` ends in .gz; LongpoleError where it cannot.

    `attributions` (one a trace) add phase, layer and role to the arguments of events.
    """
    given = attributions if attributions is not None else [None] * len(traces)
    parts = [_Part(trace, i, found) for i, (trace, found) in enumerate(zip(traces, given, strict=True))]
    try:
        with _opened(path) as out:
            _write(parts, path.name, out)
    except OSError as error:
        raise LongpoleError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


@contextmanager
def _opened(path: Path) -> Generator[IO[bytes]]:
    with path.open("wb") as raw:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=4, mtime=0) as packed:
                yield packed  # type: ignore[misc]
        else:
            yield raw


def _write(parts: Sequence[_Part], name: str, out: IO[bytes]) -> None:
    head = msgspec.json.encode(_own(parts) | _fields(parts, name))
    out.write(head[:-1] + b',"traceEvents":[')
    comma = b"\n"
    for part in parts:
        for event in _events(part):
            out.write(comma + event)
            comma = b",\n"
    out.write(b"\n]}\n")


def _own(parts: Sequence[_Part]) -> dict[str, Any]:
    """The recording of a live run as it is, so that opening the file again loses nothing."""
    if len(parts) != 1 or parts[0].trace.info.source != "live":
        return {}
    return {"longpoleTrace": base64.b64encode(dump(parts[0].trace)).decode("ascii")}


def _fields(parts: Sequence[_Part], name: str) -> dict[str, Any]:
    """What stands round the events, of what is known."""
    fields: dict[str, Any] = {"schemaVersion": 1, "traceName": _text(name), "displayTimeUnit": "ms"}
    if not parts:
        return fields
    info = parts[0].trace.info
    if len(parts) == 1 and info.rank is not None:
        known = {"rank": info.rank, "world_size": info.world_size}
        fields["distributedInfo"] = {key: value for key, value in known.items() if value is not None}
    devices = sorted({lane.device for lane in parts[0].trace.lanes if lane.device >= 0})
    if info.device and devices:
        fields["deviceProperties"] = [{"id": device, "name": _text(info.device)} for device in devices]
    if info.framework and info.framework.startswith("torch "):
        fields["torch_version"] = _text(info.framework.removeprefix("torch "))
    return fields


def _events(part: _Part) -> Iterator[bytes]:
    yield from _names(part)
    yield from _steps(part)
    yield from _spans(part)
    yield from _flows(part)
    yield from _memory(part)
    yield from _held(part)


def _text(text: str) -> str:
    """Without halves of surrogate pairs, which JSON in UTF-8 cannot carry."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _json(value: Any) -> str:
    return msgspec.json.encode(_text(value) if isinstance(value, str) else value).decode("utf-8")


def _us(ns: int) -> str:
    """Nanoseconds as microseconds with three decimals, exactly."""
    sign, size = ("-", -ns) if ns < 0 else ("", ns)
    return f"{sign}{size // 1000}.{size % 1000:03d}"


def _meta(name: str, process: int, thread: int, args: Mapping[str, Any]) -> bytes:
    return f'{{"ph":"M","name":"{name}","pid":{process},"tid":{thread},"ts":0,"args":{_json(args)}}}'.encode()


def _names(part: _Part) -> Iterator[bytes]:
    """Names and order of processes and threads: marks first, then hosts, then devices."""
    rank = part.trace.info.rank
    suffix = f" (rank {rank})" if rank is not None else ""
    order = part.place * 1000
    yield _meta("process_name", part.marks, 0, {"name": f"longpole{suffix}"})
    yield _meta("process_sort_index", part.marks, 0, {"sort_index": order})
    for lane, name in ((STEP_LANE, "steps"), (PHASE_LANE, "phases"), (LAYER_LANE, "layers")):
        yield _meta("thread_name", part.marks, lane, {"name": name})
        yield _meta("thread_sort_index", part.marks, lane, {"sort_index": lane})
    seen: set[int] = set()
    for index, lane in enumerate(part.trace.lanes):
        process, device = part.process(index), lane.device
        if process not in seen:
            seen.add(process)
            name = f"device {device}" if device >= 0 else "host"
            yield _meta("process_name", process, 0, {"name": name + suffix})
            yield _meta("process_sort_index", process, 0, {"sort_index": order + (10 + device if device >= 0 else 1)})
        yield _meta("thread_name", process, part.thread(index), {"name": _text(lane.name)})
        yield _meta("thread_sort_index", process, part.thread(index), {"sort_index": index})


def _span(category: str, name: str, process: int, thread: int, start_ns: int, duration_ns: int, args: str) -> bytes:
    return (
        f'{{"ph":"X","cat":"{category}","name":{_json(name)},"pid":{process},"tid":{thread},'
        f'"ts":{_us(start_ns)},"dur":{_us(duration_ns)},"args":{args}}}'
    ).encode()


def _steps(part: _Part) -> Iterator[bytes]:
    """The lane of steps; and `ProfilerStep#` ranges, by which other tools find steps, where there are none."""
    trace = part.trace
    named = any(text.startswith("ProfilerStep#") for text in trace.strings)
    host = next((i for i, lane in enumerate(trace.lanes) if lane.kind == "host"), None)
    for step in trace.steps:
        level = label(Level(step.level)) if step.level in Level.__members__.values() else str(step.level)
        args = _json({"step": step.index, "level": level, "batch size": step.batch_size})
        duration = max(step.end_ns - step.start_ns, 0)
        yield _span(MARKS, f"step {step.index}", part.marks, STEP_LANE, step.start_ns, duration, args)
        if not named and host is not None:
            lane = part.process(host), part.thread(host)
            yield _span("user_annotation", f"ProfilerStep#{step.index}", *lane, step.start_ns, duration, "{}")


def _spans(part: _Part) -> Iterator[bytes]:
    """Every event: phases and layers on their own lanes, ranges that may overlap as asynchronous ones."""
    trace, events = part.trace, part.trace.events
    arguments = _Arguments(part)
    starts, durations = events.start_ns.tolist(), events.duration_ns.tolist()
    kinds, lanes = events.kind.tolist(), events.lane.tolist()
    for row in range(len(events)):
        kind, lane, name = kinds[row], lanes[row], trace.name_of(row)
        args = _json(arguments.of(row))
        if kind in (Kind.PHASE, Kind.LAYER):
            own = PHASE_LANE if kind == Kind.PHASE else LAYER_LANE
            yield _span(MARKS, name, part.marks, own, starts[row], durations[row], args)
        elif trace.lanes[lane].kind == "async":
            yield from _async(part, row, CATEGORIES.get(kind, "overhead"), args)
        else:
            category = CATEGORIES.get(kind, "overhead")
            where = part.process(lane), part.thread(lane)
            yield _span(category, name, *where, starts[row], durations[row], args)


def _async(part: _Part, row: int, category: str, args: str) -> Iterator[bytes]:
    events, lane = part.trace.events, int(part.trace.events.lane[row])
    same = f'"cat":"{category}","name":{_json(part.trace.name_of(row))},"id":{part.place * 2**32 + row},'
    same += f'"pid":{part.process(lane)},"tid":{part.thread(lane)}'
    start, end = int(events.start_ns[row]), int(events.end_ns[row])
    yield f'{{"ph":"b",{same},"ts":{_us(start)},"args":{args}}}'.encode()
    yield f'{{"ph":"e",{same},"ts":{_us(end)}}}'.encode()


class _Arguments:
    """The arguments of each event under Kineto's names, and what longpole knows beside them."""

    def __init__(self, part: _Part) -> None:
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
            args["Call stack"] = _text(text(int(events.stack[row])))
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
        return {key: _text(value) for key, value in named.items() if value}


def _collective_args(trace: Trace) -> dict[int, dict[str, Any]]:
    """Arguments of each collective, by row."""
    table = trace.collectives
    columns = (table.row, table.operation, table.group, table.ranks)
    return {
        row: {
            "Collective name": _text(trace.text(operation)),
            "Process Group Name": _text(trace.text(group)),
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
        return _text(text)


def _flows(part: _Part) -> Iterator[bytes]:
    """An arrow from each launch to the device work that it started."""
    events = part.trace.events
    for row in events.rows_of(*DEVICE_WORK).tolist():
        launch = int(events.launch[row])
        if launch < 0:
            continue
        number = part.place * 2**32 + row
        for letter, at, bound in (("s", launch, ""), ("f", row, ',"bp":"e"')):
            lane = int(events.lane[at])
            yield (
                f'{{"ph":"{letter}","cat":"ac2g","name":"ac2g","id":{number},"pid":{part.process(lane)},'
                f'"tid":{part.thread(lane)},"ts":{_us(int(events.start_ns[at]))}{bound}}}'
            ).encode()


def _memory(part: _Part) -> Iterator[bytes]:
    """Memory in use as a counter, and each allocation as Kineto writes it."""
    memory = part.trace.memory
    in_use: dict[int, int] = {}
    host = part.process(0) if part.trace.lanes else part.marks
    rows = zip(
        memory.time_ns.tolist(),
        memory.bytes.tolist(),
        memory.device.tolist(),
        memory.total_allocated.tolist(),
        strict=True,
    )
    for time_ns, size, device, total in rows:
        in_use[device] = total if total >= 0 else in_use.get(device, 0) + size
        name = "memory of the host" if device < 0 else f"memory of device {device}"
        yield (
            f'{{"ph":"C","name":"{name}","pid":{part.marks},"ts":{_us(time_ns)},"args":{{"bytes":{in_use[device]}}}}}'
        ).encode()
        args: dict[str, int] = {"Bytes": size, "Device Type": 0 if device < 0 else 1, "Device Id": device}
        args |= {"Total Allocated": total} if total >= 0 else {}
        yield (
            f'{{"ph":"i","cat":"cpu_instant_event","s":"t","name":"[memory]","pid":{host},"tid":0,'
            f'"ts":{_us(time_ns)},"args":{_json(args)}}}'
        ).encode()


def _held(part: _Part) -> Iterator[bytes]:
    """What tensors held through each watched step, as a stacked counter; times lie within the step."""
    record = part.trace.memory_record
    first = watched_step(part.trace)
    for step in [first, *record.steps[1:]] if record is not None and first is not None else ():
        ledger = ledger_of(step, StepClock(step, {}, None))
        if ledger is None:
            continue
        for time_ns, held in zip(ledger.times_ns.tolist(), ledger.held.tolist(), strict=True):
            figures = dict(zip(HOLDERS, held, strict=True))
            yield (
                f'{{"ph":"C","name":"memory held by tensors","pid":{part.marks},'
                f'"ts":{_us(step.start_ns + time_ns)},"args":{_json(figures)}}}'
            ).encode()
