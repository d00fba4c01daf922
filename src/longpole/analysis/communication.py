"""Collectives on the device: which kernel is which operation of which group, and how fast it was."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.communication_names import is_communication, is_custom_communication
from longpole.analysis.device_results import CommunicationTime
from longpole.analysis.distinct import distinct
from longpole.analysis.intervals import subtract, union
from longpole.cost.collectives import bus_factor
from longpole.trace import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from longpole.analysis.intervals import Intervals
    from longpole.trace import Trace

NOT_KNOWN = -1
# Read from the top: letters of a name without its arguments, lower case -> operation. Names: NCCL's
# src/device/generate.py (github.com/NVIDIA/nccl), torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp
# (github.com/pytorch/pytorch), csrc/kernels (github.com/deepseek-ai/DeepEP).
OPERATIONS: Sequence[tuple[str, str]] = (
    ("allreduce", "all_reduce"),
    ("reducescatter", "reduce_scatter"),
    ("allgather", "all_gather"),
    ("alltoall", "all_to_all"),
    ("sendrecv", "send_recv"),
    ("broadcast", "broadcast"),
    ("crossdevicereduce", "all_reduce"),
    ("multimemoneshot", "all_reduce"),
    ("quickreduce", "all_reduce"),
    ("dispatch", "dispatch"),
    ("combine", "combine"),
    ("barrier", "barrier"),
    ("reduce", "reduce"),
    ("gather", "gather"),
    ("scatter", "scatter"),
    ("send", "send"),
    ("recv", "recv"),
)
ARGUMENTS = re.compile(r"[(<].*", re.DOTALL)


@lru_cache(maxsize=4096)
def operation_of(name: str) -> str | None:
    """`all_reduce` from `ncclDevKernel_AllReduce_Sum_f32_RING_LL(...)` or `allreduce_coalesced`; None if unknown."""
    plain = ARGUMENTS.sub("", name.replace("(anonymous namespace)", ""))
    letters = re.sub(r"[^a-z]", "", plain.lower())
    return next((operation for word, operation in OPERATIONS if word in letters), None)


@dataclass(frozen=True, slots=True)
class CollectiveKernels:
    """One row a communication kernel, in order of start; -1 is not known."""

    row: NDArray[np.int64]  # row of the event table
    operation: NDArray[np.int32]  # place in `operations`
    group: NDArray[np.int64]  # row of Trace.strings
    ranks: NDArray[np.int64]  # size of the group
    message_bytes: NDArray[np.int64]
    library: NDArray[np.bool_]  # NCCL and its kin, whose kernels only communicate
    operations: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.row)


def collective_kernels(trace: Trace) -> CollectiveKernels:
    """The communication kernels of a trace with what their arguments say: their own, or their host call's.

    A kernel launched before the recording began has no arguments: the name tells its operation, and its
    stream its group, since PyTorch gives each group a stream of its own (ProcessGroupNCCL.cpp).
    """
    events = trace.events
    kernels = events.rows_of(Kind.KERNEL)
    library, custom = _named(trace, kernels, is_communication), _named(trace, kernels, is_custom_communication)
    rows = kernels[library | custom]
    given, named = _arguments(trace, rows)
    operation, operations = _operations(trace, rows, given, named)
    group, ranks = _column(trace.collectives.group, given), _column(trace.collectives.ranks, given)
    _fill_by_stream(events.lane[rows], group, ranks)
    return CollectiveKernels(
        row=rows.astype(np.int64),
        operation=operation,
        group=group,
        ranks=np.where(ranks > 0, ranks, NOT_KNOWN),
        message_bytes=_column(trace.collectives.message_bytes, given),
        library=library[library | custom],
        operations=operations,
    )


def _operations(
    trace: Trace, rows: NDArray[np.intp], given: NDArray[np.int64], named: NDArray[np.int64]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Each kernel's operation, a place in the list beside: by arguments, by the host range `nccl:all_reduce` round the
    launch, else by the kernel's own name. -1 is not known.
    """
    name = trace.events.name
    told = _column(trace.collectives.operation, given)
    ranged = np.where(named >= 0, name[np.maximum(named, 0)], NOT_KNOWN)
    numbers: dict[str | None, int] = {None: NOT_KNOWN}
    known: dict[tuple[int, ...], int] = {}  # kernels are many, and what is said of them is little
    found: list[int] = []
    for said in zip(told.tolist(), ranged.tolist(), name[rows].tolist(), strict=True):
        if said not in known:
            operation = next((op for code in said if code >= 0 and (op := operation_of(trace.text(code)))), None)
            known[said] = numbers.setdefault(operation, len(numbers) - 1)
        found.append(known[said])
    return np.array(found, dtype=np.int32), tuple(text for text in numbers if text is not None)


def _named(trace: Trace, kernels: NDArray[np.intp], test: Callable[[str], bool]) -> NDArray[np.bool_]:
    names = trace.events.name[kernels]
    codes = [code for code in distinct(names).tolist() if test(trace.text(code))]
    return np.isin(names, codes)


def _arguments(trace: Trace, rows: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each kernel its row of Trace.collectives, and a host collective that its launch stands in; -1: none."""
    events = trace.events
    owner = np.full(len(events), NOT_KNOWN, dtype=np.int64)
    owner[trace.collectives.row] = np.arange(len(trace.collectives.row))
    given = owner[rows]
    named = np.full(len(rows), NOT_KNOWN, dtype=np.int64)
    at = events.launch[rows].astype(np.int64)
    climbing = np.flatnonzero(at >= 0)
    while len(climbing):
        here = at[climbing]
        known = owner[here]
        given[climbing] = np.where(given[climbing] >= 0, given[climbing], known)
        is_collective = (events.kind[here] == Kind.COLLECTIVE) & (named[climbing] < 0)
        named[climbing] = np.where(is_collective, here, named[climbing])
        at[climbing] = events.parent[here]
        climbing = climbing[(at[climbing] >= 0) & (known < 0)]
    return given, named


def _column(values: NDArray[np.int32] | NDArray[np.int64], given: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.full(len(given), NOT_KNOWN, dtype=np.int64)
    found[given >= 0] = values[given[given >= 0]]
    return found


def _fill_by_stream(lane: NDArray[np.int32], group: NDArray[np.int64], ranks: NDArray[np.int64]) -> None:
    """Gives kernels without arguments the group of the others on their stream, where those agree; in place."""
    for one in distinct(lane[group < 0]).tolist():
        known = (lane == one) & (group >= 0)
        if len(distinct(group[known])) == 1:
            lost = (lane == one) & (group < 0)
            group[lost], ranks[lost] = group[known][0], ranks[known].max()


def communication_times(trace: Trace, kernels: CollectiveKernels | None = None) -> list[CommunicationTime]:
    """Time, bytes and bandwidth by group and operation, longest first; `kernels` are the trace's, where known.

    Where kernels overlap, exposed time belongs to the one that started first, so that rows of libraries add
    up to the timeline's exposed communication.
    """
    calls = kernels if kernels is not None else collective_kernels(trace)
    if not len(calls):
        return []
    exposed = exposed_ns(trace, calls)
    keys = np.stack([~calls.library, calls.group, calls.operation], axis=1).astype(np.int64)
    distinct, which = np.unique(keys, axis=0, return_inverse=True)
    which = which.reshape(-1)
    found = [_time_of(trace, calls, np.flatnonzero(which == index), exposed) for index in range(len(distinct))]
    return sorted(found, key=lambda one: -one.device_ms)


def _time_of(
    trace: Trace, calls: CollectiveKernels, mine: NDArray[np.intp], exposed: NDArray[np.int64]
) -> CommunicationTime:
    first = int(mine[0])
    operation = calls.operations[calls.operation[first]] if calls.operation[first] >= 0 else None
    sizes = distinct(calls.ranks[mine][calls.ranks[mine] > 0])
    ranks = int(sizes[0]) if len(sizes) == 1 else None
    duration = trace.events.duration_ns[calls.row[mine]]
    known = calls.message_bytes[mine] >= 0
    moved, seconds = int(calls.message_bytes[mine][known].sum()), float(duration[known].sum()) / 1e9
    speed = moved / seconds if seconds > 0 else None
    factor = bus_factor(operation, ranks) if operation is not None and ranks is not None else None
    return CommunicationTime(
        group=trace.text(int(calls.group[first])) or None,
        operation=operation,
        ranks=ranks,
        count=len(mine),
        device_ms=int(duration.sum()) / 1e6,
        exposed_ms=int(exposed[mine].sum()) / 1e6,
        bytes=moved if known.any() else None,
        counted=int(known.sum()),
        algorithm_bytes_per_s=speed,
        bus_bytes_per_s=speed * factor if speed is not None and factor is not None else None,
        library=bool(calls.library[first]),
        rank=trace.info.rank,
    )


def exposed_ns(trace: Trace, calls: CollectiveKernels) -> NDArray[np.int64]:
    """Nanoseconds of each kernel in which no compute kernel runs and no earlier collective either.

    A library's kernels are held against every other kernel, a framework's own against those that do not
    communicate at all.
    """
    events = trace.events
    kernels = events.rows_of(Kind.KERNEL)
    found = np.zeros(len(calls), dtype=np.int64)
    for library in (True, False):
        mine = np.flatnonzero(calls.library == library)
        if not len(mine):
            continue
        talking = calls.row[calls.library] if library else calls.row
        others = kernels[~np.isin(kernels, talking, assume_unique=True, kind="table")]
        compute = union(events.start_ns[others], events.end_ns[others])
        start, end = events.start_ns[calls.row[mine]], events.end_ns[calls.row[mine]]
        whole = union(start, end)
        free = subtract(whole, compute)
        reach = np.maximum.accumulate(np.r_[np.iinfo(np.int64).min, end[:-1]])
        low = np.maximum(start, reach)
        found[mine] = np.where(end > low, measure(free, end) - measure(free, np.minimum(low, end)), 0)
    return found


def measure(intervals: Intervals, until: NDArray[np.int64]) -> NDArray[np.int64]:
    """Nanoseconds of the set before each of the times."""
    start, end = intervals
    if not len(start):
        return np.zeros(len(until), dtype=np.int64)
    place = np.searchsorted(start, until, side="right") - 1
    whole = np.r_[0, np.cumsum(end - start)]
    inside = np.minimum(until, end[np.maximum(place, 0)]) - start[np.maximum(place, 0)]
    return np.where(place < 0, 0, whole[np.maximum(place, 0)] + inside)
