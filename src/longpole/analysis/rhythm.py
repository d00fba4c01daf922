"""The steps of a trace that does not mark them longpole's way: from what it does mark, else from its own rhythm."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from longpole.analysis.distinct import distinct
from longpole.analysis.intervals import union
from longpole.trace import DEVICE_WORK, Kind, StepWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from longpole.trace import Trace

# A step before it becomes a StepWindow: its number, its start and end, ns.
Turn = tuple[int, int, int]

PROFILER_STEP = re.compile(r"ProfilerStep\s*#?\s*(\d+)")
NUMBERED_STEP = re.compile(r"(?:train(?:ing)?[ _-]?)?(?:step|iter|iteration|batch)[ _#:-]*(\d+)", re.IGNORECASE)
OPTIMIZER_STEP = re.compile(r"Optimizer\.step#(.+)")
DATA_FETCH = re.compile(r"(enumerate\(DataLoader\)#.*)")
BACKWARD_NODE = "autograd::engine::evaluate_function: "
HOST_RANGES = (Kind.ANNOTATION, Kind.OP)
LEAST_SHARE = 0.8  # of the host's time that ranges must cover to be called the steps
MOST_NAMES = 0.9  # share of kernel names whose number of calls is a multiple of the steps
LEAST_NAMES = 3  # different kernels that must keep the same rhythm
MOST_UNEVEN = 0.5  # standard deviation of a rhythm's intervals over their mean


@dataclass(frozen=True)
class Rule:
    """One way to find steps, and the sentence that says it was used."""

    find: Callable[[Trace], list[Turn]]
    sentence: str


def find_steps(trace: Trace) -> tuple[list[StepWindow], str]:
    """The steps in order of time, and a sentence that says where they come from, or why there are none.

    Windows do not overlap and are host time, except that the last one ends with the device work that it
    started. Steps that the trace has already (`trace.steps`) are returned as they are.
    """
    if trace.steps:
        return list(trace.steps), "Steps as recorded."
    for rule in RULES:
        turns = rule.find(trace)
        if turns:
            turns[-1] = _with_its_device_work(_launched_work(trace), turns[-1])
            return [StepWindow(index=index, start_ns=start, end_ns=end) for index, start, end in turns], rule.sentence
    return [], (
        "No steps: the trace has no ProfilerStep ranges, optimizer steps, backward passes or repeating kernels; "
        "record with torch.profiler.schedule and call prof.step() each turn to see steps."
    )


def device_windows(trace: Trace, steps: Sequence[StepWindow]) -> list[StepWindow]:
    """The same steps as the device sees them: each ends when the last work it launched has ended.

    Hosts run ahead: with three steps in flight, host windows are short and the last one is long. These
    windows follow one another without overlap; a step that launched nothing keeps its host end.
    """
    found: list[StepWindow] = []
    reached: int | None = None
    work = _launched_work(trace)
    for step in steps:
        _, start, end = _with_its_device_work(work, (step.index, step.start_ns, step.end_ns))
        start = step.start_ns if reached is None else max(reached, start)
        reached = max(start, end)
        found.append(msgspec.structs.replace(step, start_ns=start, end_ns=reached))
    return found


def profiler_steps(trace: Trace) -> list[Turn]:
    """One turn for each `ProfilerStep#N`, up to the start of the next."""
    return _numbered(trace, PROFILER_STEP)


def numbered_annotations(trace: Trace) -> list[Turn]:
    """One turn for each range of the user's own called `step 7`, `iteration_7`, `train_step#7`."""
    return _numbered(trace, NUMBERED_STEP)


def optimizer_steps(trace: Trace) -> list[Turn]:
    """Turns that end with an update; updates with no new batch (or no new backward pass) between are one."""
    rows, _ = _matching(trace, OPTIMIZER_STEP)
    fetches, _ = _matching(trace, DATA_FETCH)
    events = trace.events
    news = events.start_ns[fetches if len(fetches) else _backward_rows(trace)]
    ends: list[int] = []
    for row in rows.tolist():
        start, end = int(events.start_ns[row]), int(events.end_ns[row])
        if not ends or np.any((news >= ends[-1]) & (news < start)) or not len(news):
            ends.append(end)
        ends[-1] = max(ends[-1], end)
    starts = [_host_start(trace), *ends[:-1]] if ends else []
    return [(index, start, end) for index, (start, end) in enumerate(zip(starts, ends, strict=True))]


def backward_passes(trace: Trace) -> list[Turn]:
    """Turns from the first forward op that needs a gradient to the next one after a backward pass."""
    events = trace.events
    backward = _backward_rows(trace)
    if not len(backward):
        return []
    ops = events.rows_of(Kind.OP)
    starts = events.start_ns[ops[(events.sequence[ops] >= 0) & (events.forward_thread[ops] <= 0)]]
    low, high = union(events.start_ns[backward], events.end_ns[backward])
    if not len(low):
        return []
    place = np.searchsorted(low, starts, side="right") - 1
    recomputed = (place >= 0) & (starts < high[np.maximum(place, 0)])  # activation checkpointing
    starts, place = starts[~recomputed], place[~recomputed]
    # An op starts a new forward pass where a backward pass has run since the op before it.
    fresh = np.flatnonzero(np.r_[False, place[1:] > place[:-1]]) if len(starts) else np.empty(0, dtype=np.intp)
    borders = [_host_start(trace), *(int(starts[i]) for i in fresh), _host_end(trace)]
    pairs = [pair for pair in pairwise(borders) if pair[0] <= int(low[-1])]
    return [(index, start, end) for index, (start, end) in enumerate(pairs)]


def repeated_annotation(trace: Trace) -> list[Turn]:
    """Turns of an annotation that comes again and again and covers nearly all of the host's time."""
    events = trace.events
    rows = events.rows_of(Kind.ANNOTATION)
    rows = rows[events.duration_ns[rows] > 0]
    recorded = _host_end(trace) - _host_start(trace) if len(rows) else 0
    for name in distinct(events.name[rows]):
        mine = _outermost(trace, rows[events.name[rows] == name])
        span = int(events.end_ns[mine[-1]] - events.start_ns[mine[0]])
        covered = int(events.duration_ns[mine].sum())
        if len(mine) >= LEAST_NAMES and min(covered / span, span / recorded) >= LEAST_SHARE:
            return _to_next(trace, mine, list(range(len(mine))))
    return []


def kernel_rhythm(trace: Trace) -> list[Turn]:
    """Turns between returns of a kernel, of a trace without host ops, where nearly all kernels keep that beat.

    The beat of the layers of one forward pass is not taken for steps: what comes before and after the layers
    would not keep it.
    """
    kernels = trace.events.rows_of(Kind.KERNEL)
    if len(trace.events.rows_of(Kind.OP)) or not len(kernels):
        return []
    names = trace.events.name[kernels]
    codes, counts = np.unique(names, return_counts=True)
    for beat in distinct(counts[counts >= LEAST_NAMES]).tolist():
        if np.mean(counts % beat == 0) < MOST_NAMES:
            continue
        times = [trace.events.start_ns[kernels[names == code]] for code in codes[counts == beat]]
        even = [one for one in times if _even(one)]
        if len(even) >= LEAST_NAMES:
            first = min(even, key=lambda one: int(one[0])).tolist()
            borders = [*first, int(trace.events.end_ns[kernels].max())]
            return [(index, *pair) for index, pair in enumerate(pairwise(borders))]
    return []


RULES: Sequence[Rule] = (
    Rule(profiler_steps, "Steps are the ProfilerStep ranges that the script's profiler marked."),
    Rule(numbered_annotations, "Steps are the numbered ranges that the script marked."),
    Rule(optimizer_steps, "No ProfilerStep ranges: a step is taken to end with each optimizer update."),
    Rule(backward_passes, "No ProfilerStep or optimizer ranges: a step is taken to start with each forward pass."),
    Rule(repeated_annotation, "No training steps: turns are those of a range that the script repeats."),
    Rule(kernel_rhythm, "Only device work was recorded: turns are taken from kernels that return at an even beat."),
)


def _numbered(trace: Trace, pattern: re.Pattern[str]) -> list[Turn]:
    rows, numbers = _matching(trace, pattern)
    if not len(rows):
        return []
    outermost = _outermost(trace, rows)
    number_of = dict(zip(rows.tolist(), numbers, strict=True))
    return _to_next(trace, outermost, [int(number_of[row]) for row in outermost.tolist()])


def _matching(trace: Trace, pattern: re.Pattern[str]) -> tuple[NDArray[np.intp], list[str]]:
    """Host ranges whose whole name matches, in order of start, with the pattern's group for each."""
    rows = trace.events.rows_of(*HOST_RANGES)
    names = trace.events.name[rows]
    found = {int(code): pattern.fullmatch(trace.text(int(code))) for code in distinct(names)}
    groups = {code: match.group(1) for code, match in found.items() if match is not None}
    rows = rows[np.isin(names, list(groups))]
    return rows, [groups[int(code)] for code in trace.events.name[rows]]


def _outermost(trace: Trace, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of ranges in order of start, those that start after every one before them ended, on the busiest lane."""
    lanes, counts = np.unique(trace.events.lane[rows], return_counts=True)
    rows = rows[trace.events.lane[rows] == lanes[np.argmax(counts)]]
    reach = np.maximum.accumulate(trace.events.end_ns[rows])
    return rows[np.r_[True, trace.events.start_ns[rows[1:]] >= reach[:-1]]]


def _to_next(trace: Trace, rows: NDArray[np.intp], numbers: list[int]) -> list[Turn]:
    """Each range from its start to the start of the next, if that comes at once; the last to its end.

    Ranges far apart (a schedule that waits and repeats) keep their own ends.
    """
    starts = trace.events.start_ns[rows].tolist()
    ends = trace.events.end_ns[rows].tolist()
    usual = float(np.median(trace.events.duration_ns[rows]))
    for index, following in enumerate(starts[1:]):
        if following - ends[index] <= usual:
            ends[index] = following
    return list(zip(numbers, starts, ends, strict=True))


def _backward_rows(trace: Trace) -> NDArray[np.intp]:
    rows = trace.events.rows_of(Kind.OP)
    names = trace.events.name[rows]
    nodes = [code for code in distinct(names) if trace.text(int(code)).startswith(BACKWARD_NODE)]
    return rows[np.isin(names, nodes)]


def _even(times: NDArray[np.int64]) -> bool:
    between = np.diff(times)
    return bool(between.mean() > 0 and between.std() <= MOST_UNEVEN * between.mean())


def _host_start(trace: Trace) -> int:
    rows = trace.events.rows_of(*HOST_RANGES, Kind.RUNTIME)
    return int(trace.events.start_ns[rows].min())


def _host_end(trace: Trace) -> int:
    rows = trace.events.rows_of(*HOST_RANGES, Kind.RUNTIME)
    return int(trace.events.end_ns[rows].max())


def _launched_work(trace: Trace) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """When each piece of device work was launched, and when it ended; in the order of launching."""
    events = trace.events
    rows = events.rows_of(*DEVICE_WORK)
    rows = rows[events.launch[rows] >= 0]
    launched = events.start_ns[events.launch[rows]]
    order = np.argsort(launched, kind="stable")
    rows = rows[order]
    return launched[order], events.start_ns[rows] + events.duration_ns[rows]


def _with_its_device_work(work: tuple[NDArray[np.int64], NDArray[np.int64]], turn: Turn) -> Turn:
    """The turn, longer where device work that it started ends after it."""
    index, start, end = turn
    launched, ends = work
    low, high = np.searchsorted(launched, (start, end))
    return (index, start, max(end, int(ends[low:high].max()))) if high > low else turn
