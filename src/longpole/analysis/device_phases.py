"""In which phase of the step each host event is, and with it the device work that it launches.

What a name states counts for everything inside; what no name states follows from order: before the next
backward pass is forward, from the first loss on is loss, and norms between backward and optimizer are clipping.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_marks import (
    LOSS_OP,
    MODULE,
    NORM_OP,
    PRODUCT_OP,
    READ_OP,
    STEP_MARK,
    UPDATE,
    matching,
    phases_by_name,
)
from longpole.analysis.distinct import distinct
from longpole.analysis.tree import inherit
from longpole.trace import DEVICE_WORK, Kind, Phase

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.trace import Trace

MOST = 0.5  # share of a thread's time in backward nodes that makes it a backward thread
NEVER = np.iinfo(np.int64).max
LEAST_NAMESAKES = 2
NO_PHASE = 100  # stops a phase from being handed down
OF_A_NETWORK = (Phase.FORWARD, Phase.LOSS, Phase.BACKWARD, Phase.CLIP, Phase.OPTIMIZER, Phase.EVALUATION)
WORKING = (Kind.OP, Kind.RUNTIME, Kind.COLLECTIVE)


def host_phases(trace: Trace) -> NDArray[np.int64]:
    """Phase of each row of a host thread; NOBODY where nothing tells, and for rows that are not on the host."""
    events = trace.events
    stated = phases_by_name(trace)
    stated[_steps_that_stick_out(trace)] = NO_PHASE
    phase = inherit(stated, events.parent)
    phase[phase == NO_PHASE] = -1
    backward = _backward_rows(trace, phase)
    phase[backward] = Phase.BACKWARD
    silent = phase < 0
    in_module = _in_modules(trace)
    phase[silent & in_module] = Phase.FORWARD
    _by_order(trace, phase)
    _losses(trace, phase)
    phase[phase < 0] = Phase.NOBODY
    return phase


def _steps_that_stick_out(trace: Trace) -> NDArray[np.intp]:
    """Steps that begin inside a range and end after it: `prof.step()` called from a hook of the optimizer.

    Such a step is the optimizer's child by the clock alone; its forward pass is none of the optimizer's.
    """
    events = trace.events
    marks = matching(trace, STEP_MARK, (Kind.OP, Kind.ANNOTATION))
    parent = events.parent[marks]
    return marks[(parent >= 0) & (events.end_ns[marks] > events.end_ns[np.maximum(parent, 0)])]


def _in_modules(trace: Trace) -> NDArray[np.bool_]:
    own = np.full(len(trace.events), -1, dtype=np.int64)
    own[matching(trace, MODULE, (Kind.PYTHON,))] = 1
    return inherit(own, trace.events.parent) == 1


def _backward_rows(trace: Trace, phase: NDArray[np.int64]) -> NDArray[np.intp]:
    """Rows of threads that do nothing but backward passes: between nodes they work for backward, too."""
    events = trace.events
    top = np.flatnonzero((events.parent < 0) & events.mask_of(*WORKING))
    lanes = len(trace.lanes)
    time = events.duration_ns[top].astype(np.float64)
    whole = np.bincount(events.lane[top], weights=time, minlength=lanes)
    part = np.bincount(events.lane[top], weights=time * (phase[top] == Phase.BACKWARD), minlength=lanes)
    # A thread with steps or updates on it trains; backward on a CPU runs on that thread itself.
    marked = set(events.lane[matching(trace, STEP_MARK, (Kind.OP, Kind.ANNOTATION))].tolist())
    marked |= set(events.lane[phase == Phase.OPTIMIZER].tolist())
    mine = [lane for lane in np.flatnonzero(part > MOST * whole).tolist() if lane not in marked]
    return np.flatnonzero(np.isin(events.lane, mine) & events.mask_of(*WORKING, Kind.ANNOTATION))


def _by_order(trace: Trace, phase: NDArray[np.int64]) -> None:
    """Fills rows that no name speaks for: forward before a backward pass, clipping between it and the update."""
    events = trace.events
    rows = np.flatnonzero((phase < 0) & events.mask_of(*WORKING))
    differentiated = (events.sequence >= 0) & (phase < 0)
    phase[inherit(np.where(differentiated, 1, -1).astype(np.int64), events.parent) == 1] = Phase.FORWARD
    backward = np.sort(events.start_ns[phase == Phase.BACKWARD])
    if not len(backward):
        _inference(trace, phase, rows)
        return
    update = np.sort(events.start_ns[_updates(trace)])
    times = events.start_ns[rows]
    to_backward, to_update = _next(backward, times), _next(update, times)
    steps = np.sort(events.start_ns[matching(trace, STEP_MARK, (Kind.OP, Kind.ANNOTATION))])
    to_step = _next(steps, times)
    open_ = phase[rows] < 0
    phase[rows[open_ & (to_backward < np.minimum(to_update, to_step))]] = Phase.FORWARD
    norms = np.sort(events.start_ns[matching(trace, NORM_OP, (Kind.OP,))])
    if not len(norms):
        return
    clips = (_last(norms, times) > _last(backward, times)) & (to_update < np.minimum(to_backward, to_step))
    phase[rows[clips & ~_reads_back(trace, rows)]] = Phase.CLIP


def _inference(trace: Trace, phase: NDArray[np.int64], rows: NDArray[np.intp]) -> None:
    """Where nothing says or shows a phase of training, and the ops of a network ran: they ran forward."""
    if np.any(np.isin(phase, OF_A_NETWORK)) or not len(matching(trace, PRODUCT_OP, (Kind.OP,))):
        return
    phase[rows[phase[rows] < 0]] = Phase.FORWARD


def _updates(trace: Trace) -> NDArray[np.intp]:
    return matching(trace, UPDATE, (Kind.OP, Kind.ANNOTATION, Kind.PYTHON))


def _reads_back(trace: Trace, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Rows in a read of a value by the host (logging of the norm, say)."""
    own = np.full(len(trace.events), -1, dtype=np.int64)
    own[matching(trace, READ_OP, (Kind.OP,))] = 1
    return inherit(own, trace.events.parent)[rows] == 1


def _losses(trace: Trace, phase: NDArray[np.int64]) -> None:
    """Forward work from the first op of a loss on is the loss, up to the backward pass.

    A range that the user opens after it and gives a name of its own is none of the loss.
    """
    events = trace.events
    losses = matching(trace, LOSS_OP, (Kind.OP,))
    losses = losses[phase[losses] == Phase.FORWARD]
    starts = np.sort(events.start_ns[losses])
    borders = np.sort(np.r_[events.start_ns[phase == Phase.BACKWARD], events.start_ns[_updates(trace)]])
    rows = np.flatnonzero((phase == Phase.FORWARD) & events.mask_of(*WORKING))
    if not len(starts) or not len(borders):
        phase[losses] = Phase.LOSS
        return
    times = events.start_ns[rows]
    last = _last(starts, times)
    after = (last >= 0) & (last > _last(borders, times))
    phase[rows[after & ~(_start_of_range(trace)[rows] > last)]] = Phase.LOSS


def _start_of_range(trace: Trace) -> NDArray[np.int64]:
    """For each row when the innermost named range round it began; -1 where there is none."""
    events = trace.events
    own = np.full(len(events), -1, dtype=np.int64)
    ranges = events.rows_of(Kind.ANNOTATION)
    own[ranges] = ranges
    found = inherit(own, events.parent)
    return np.where(found >= 0, events.start_ns[np.maximum(found, 0)], -1)


def _next(times: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first of sorted `times` later than each of `after`."""
    return np.r_[times, NEVER][np.searchsorted(times, after, side="right")]


def _last(times: NDArray[np.int64], until: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last of sorted `times` no later than each of `until`; -1 where there is none."""
    return np.r_[np.int64(-1), times][np.searchsorted(times, until, side="right")]


def device_phases(trace: Trace, host: NDArray[np.int64], communicating: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Phase of each row of device work, -1 elsewhere; `communicating` says which rows are communication.

    Work launched before the recording began has no launch. It has the phase that all kernels of its name have that
    do; else, where its neighbours on the stream agree, theirs, for a stream works in the order of launches.
    """
    events = trace.events
    phase = np.full(len(events), -1, dtype=np.int64)
    rows = events.rows_of(*DEVICE_WORK)
    launched = rows[events.launch[rows] >= 0]
    phase[launched] = host[events.launch[launched]]
    _by_namesakes(trace, phase, rows[(events.launch[rows] < 0) & (events.kind[rows] == Kind.KERNEL)], launched)
    for lane in distinct(events.lane[rows]).tolist():
        mine = rows[events.lane[rows] == lane]
        phase[mine] = _between_neighbours(phase[mine])
    rows_in = _copies_in(trace, rows)
    movable = np.isin(phase[rows_in], (Phase.NOBODY, Phase.FORWARD, Phase.DATA, Phase.OTHER))
    phase[rows_in[movable]] = Phase.TRANSFER
    phase[rows[communicating[rows]]] = Phase.COMMUNICATION
    return phase


def _by_namesakes(
    trace: Trace, phase: NDArray[np.int64], unlaunched: NDArray[np.intp], launched: NDArray[np.intp]
) -> None:
    """Gives rows the phase that every row of the same name in `launched` has, where there are at least two."""
    known = launched[phase[launched] >= 0]
    if not len(unlaunched) or not len(known):
        return
    names, count = trace.events.name, len(trace.strings)
    least, most = np.full(count, NO_PHASE, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    np.minimum.at(least, names[known], phase[known])
    np.maximum.at(most, names[known], phase[known])
    agreed = (least == most) & (least != Phase.NOBODY) & (np.bincount(names[known], minlength=count) >= LEAST_NAMESAKES)
    mine = unlaunched[agreed[names[unlaunched]]]
    phase[mine] = most[names[mine]]


def _between_neighbours(phase: NDArray[np.int64]) -> NDArray[np.int64]:
    known = np.flatnonzero(phase >= 0)
    if not len(known):
        return np.full(len(phase), int(Phase.NOBODY), dtype=np.int64)
    place = np.searchsorted(known, np.arange(len(phase)))
    before, after = known[np.maximum(place - 1, 0)], known[np.minimum(place, len(known) - 1)]
    same = (phase[before] == phase[after]) & (place > 0) & (place < len(known))
    return np.where(phase >= 0, phase, np.where(same, phase[before], int(Phase.NOBODY)))


def _copies_in(trace: Trace, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Copies from the host to a device."""
    copies = rows[trace.events.kind[rows] == Kind.MEMCPY]
    names = trace.events.name[copies]
    inward = [c for c in distinct(names).tolist() if "HtoD" in trace.text(c) or "HostToDevice" in trace.text(c)]
    return copies[np.isin(names, inward)]
