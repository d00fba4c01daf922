"""What the hosts of several ranks did, side by side: pace, queue, which ranges took longer, and whether all did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.distinct import distinct_with_inverse
from longpole.trace import DEVICE_WORK, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.trace import StepWindow, Trace

SOON_NS = 20_000  # a launch takes 4 to 10 us to reach an idle device: a kernel that starts so soon met no queue
LEAST_CALLS = 5  # of an op on each rank, for its median to be compared
LEAST_NAMES = 5  # ops compared, for a host to be called slower
DEEPEST = 2  # annotations and ops under at most so many annotations are compared


@dataclass(frozen=True, slots=True)
class Host:
    """One rank's host; None is not known. Times in ns."""

    step_ns: float | None = None  # median, between starts of consecutive steps
    queue_ns: float | None = None  # median, from launch to start of a kernel
    bound_share: float | None = None  # of launches: the kernel started as soon as it was launched
    late_ns: int | None = None  # idle device time that ended with such a kernel: the host had nothing launched
    ranges: Mapping[str, float] = field(default_factory=dict[str, float])  # of a step, by name of the outer ranges
    ops: Mapping[str, float] = field(default_factory=dict[str, float])  # median duration by name
    op_count: int = 0


def host_of(trace: Trace, steps: Sequence[StepWindow]) -> Host:
    """Figures of one rank's host; steps are host windows."""
    events = trace.events
    work = events.rows_of(*DEVICE_WORK)
    idle = idle_before(events.start_ns[work], events.end_ns[work])
    launched = events.launch[work] >= 0
    kernels = work[launched]
    queue = events.start_ns[kernels] - events.start_ns[events.launch[kernels]]
    starts = np.array([step.start_ns for step in steps], dtype=np.int64)
    ops = events.rows_of(Kind.OP)
    return Host(
        step_ns=float(np.median(np.diff(starts))) if len(starts) > 1 else None,
        queue_ns=float(np.median(queue)) if len(queue) else None,
        bound_share=float(np.mean(queue <= SOON_NS)) if len(queue) else None,
        late_ns=int(idle[launched][queue <= SOON_NS].sum()) if len(queue) else None,
        ranges=_ranges(trace, steps),
        ops=_medians(trace),
        op_count=len(ops),
    )


def idle_before(start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """How long nothing ran before each piece of work, in order of start; 0 before the first."""
    if not len(start_ns):
        return start_ns
    reach = np.maximum.accumulate(np.r_[start_ns[:1], end_ns[:-1]])
    return np.maximum(start_ns - reach, 0)


def _ranges(trace: Trace, steps: Sequence[StepWindow]) -> dict[str, float]:
    """Mean time a step of annotations and ops that stand in annotations only, the outermost of a name.

    The last step is left out: the end of a recording waits for the device.
    """
    windows = steps[:-1] if len(steps) > 1 else steps
    if not windows:
        return {}
    events = trace.events
    rows = events.rows_of(Kind.OP, Kind.ANNOTATION)
    rows = rows[(events.start_ns[rows] >= windows[0].start_ns) & (events.start_ns[rows] < windows[-1].end_ns)]
    parent = events.parent[rows]
    for _ in range(DEEPEST):
        annotated = (parent >= 0) & (events.kind[np.maximum(parent, 0)] == Kind.ANNOTATION)
        parent = np.where(annotated, events.parent[np.maximum(parent, 0)], parent)
    rows = rows[parent < 0]
    codes, which = distinct_with_inverse(events.name[rows])
    time = np.bincount(which.reshape(-1), weights=events.duration_ns[rows], minlength=len(codes))
    known = {f"ProfilerStep#{step.index}" for step in steps}
    texts = [trace.text(int(code)) for code in codes]
    return {text: value / len(windows) for text, value in zip(texts, time.tolist(), strict=True) if text not in known}


def _medians(trace: Trace) -> dict[str, float]:
    events = trace.events
    rows = events.rows_of(Kind.OP, Kind.RUNTIME)
    if not len(rows):
        return {}
    rows = rows[np.argsort(events.name[rows], kind="stable")]
    codes, first, count = np.unique(events.name[rows], return_index=True, return_counts=True)
    found: dict[str, float] = {}
    for code, low, many in zip(codes.tolist(), first.tolist(), count.tolist(), strict=True):
        if many >= LEAST_CALLS:
            found[trace.text(code)] = float(np.median(events.duration_ns[rows[low : low + many]]))
    return found


def slower(one: Host, others: Sequence[Host]) -> float | None:
    """How many times as long an op takes on this host as in the middle of the others: the median over names.

    None where too few names are common to all. Waits inside calls are not typical of a name's median.
    """
    names = set(one.ops).intersection(*(other.ops for other in others)) if others else set()
    ratios = []
    for name in names:
        usual = float(np.median([other.ops[name] for other in others]))
        if usual > 0:
            ratios.append(one.ops[name] / usual)
    return float(np.median(ratios)) if len(ratios) >= LEAST_NAMES else None


def longest_excess(one: Host, others: Sequence[Host]) -> tuple[str, float, float] | None:
    """The range that takes so much longer here than in the middle of the others: name, ns here, ns there."""
    found: tuple[str, float, float] | None = None
    for name, here in one.ranges.items():
        there = float(np.median([other.ranges.get(name, 0.0) for other in others])) if others else here
        if there > 0 and (found is None or here - there > found[1] - found[2]):
            found = (name, here, there)
    return found if found is not None and found[1] > found[2] else None
