"""The lanes of a timeline: processes and threads named, and on them steps, phases, layers, events and launches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.report.chrome_events import as_json, asynchronous, complete, encodable, flow, metadata
from longpole.report.perfetto_arguments import Arguments
from longpole.trace import DEVICE_WORK, Kind, Level, label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from longpole.report.perfetto_part import Part

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


def names(part: Part) -> Iterator[bytes]:
    """Names and order of processes and threads: marks first, then hosts, then devices."""
    rank = part.trace.info.rank
    suffix = f" (rank {rank})" if rank is not None else ""
    order = part.place * 1000
    yield metadata("process_name", part.marks, 0, {"name": f"longpole{suffix}"})
    yield metadata("process_sort_index", part.marks, 0, {"sort_index": order})
    for lane, name in ((STEP_LANE, "steps"), (PHASE_LANE, "phases"), (LAYER_LANE, "layers")):
        yield metadata("thread_name", part.marks, lane, {"name": name})
        yield metadata("thread_sort_index", part.marks, lane, {"sort_index": lane})
    seen: set[int] = set()
    for index, lane in enumerate(part.trace.lanes):
        process, device = part.process(index), lane.device
        if process not in seen:
            seen.add(process)
            name = f"device {device}" if device >= 0 else "host"
            yield metadata("process_name", process, 0, {"name": name + suffix})
            yield metadata(
                "process_sort_index", process, 0, {"sort_index": order + (10 + device if device >= 0 else 1)}
            )
        yield metadata("thread_name", process, part.thread(index), {"name": encodable(lane.name)})
        yield metadata("thread_sort_index", process, part.thread(index), {"sort_index": index})


def steps(part: Part) -> Iterator[bytes]:
    """The lane of steps; and `ProfilerStep#` ranges, by which other tools find steps, where there are none."""
    trace = part.trace
    named = any(text.startswith("ProfilerStep#") for text in trace.strings)
    host = next((i for i, lane in enumerate(trace.lanes) if lane.kind == "host"), None)
    for step in trace.steps:
        level = label(Level(step.level)) if step.level in Level.__members__.values() else str(step.level)
        args = as_json({"step": step.index, "level": level, "batch size": step.batch_size})
        duration = max(step.end_ns - step.start_ns, 0)
        yield complete(MARKS, f"step {step.index}", part.marks, STEP_LANE, step.start_ns, duration, args)
        if not named and host is not None:
            lane = part.process(host), part.thread(host)
            yield complete("user_annotation", f"ProfilerStep#{step.index}", *lane, step.start_ns, duration, "{}")


def spans(part: Part) -> Iterator[bytes]:
    """Every event: phases and layers on their own lanes, ranges that may overlap as asynchronous ones."""
    trace, events = part.trace, part.trace.events
    arguments = Arguments(part)
    starts, durations = events.start_ns.tolist(), events.duration_ns.tolist()
    kinds, lanes = events.kind.tolist(), events.lane.tolist()
    for row in range(len(events)):
        kind, lane, name = kinds[row], lanes[row], trace.name_of(row)
        args = as_json(arguments.of(row))
        if kind in (Kind.PHASE, Kind.LAYER):
            own = PHASE_LANE if kind == Kind.PHASE else LAYER_LANE
            yield complete(MARKS, name, part.marks, own, starts[row], durations[row], args)
        elif trace.lanes[lane].kind == "async":
            yield from _async(part, row, CATEGORIES.get(kind, "overhead"), args)
        else:
            category = CATEGORIES.get(kind, "overhead")
            where = part.process(lane), part.thread(lane)
            yield complete(category, name, *where, starts[row], durations[row], args)


def _async(part: Part, row: int, category: str, args: str) -> Iterator[bytes]:
    events, lane = part.trace.events, int(part.trace.events.lane[row])
    number, where = part.place * 2**32 + row, (part.process(lane), part.thread(lane))
    start, end = int(events.start_ns[row]), int(events.end_ns[row])
    yield from asynchronous(category, part.trace.name_of(row), number, *where, start, end, args)


def flows(part: Part) -> Iterator[bytes]:
    """An arrow from each launch to the device work that it started."""
    events = part.trace.events
    for row in events.rows_of(*DEVICE_WORK).tolist():
        launch = int(events.launch[row])
        if launch < 0:
            continue
        number = part.place * 2**32 + row
        for is_end, at in ((False, launch), (True, row)):
            lane = int(events.lane[at])
            where = part.process(lane), part.thread(lane)
            yield flow("ac2g", number, *where, int(events.start_ns[at]), is_end=is_end)
