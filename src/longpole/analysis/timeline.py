"""Device time of a trace or a step: busy, idle, compute, communication, exposed communication, copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.communication_names import is_communication
from longpole.analysis.distinct import distinct
from longpole.analysis.intervals import Intervals, clip, subtract, total, union
from longpole.analysis.study import Share, Timeline
from longpole.trace import DEVICE_WORK, Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.trace import Trace

Window = tuple[int, int]


def device_window(trace: Trace) -> Window | None:
    """From the start of the first device event to the end of the last, ns; None without device events."""
    rows = trace.events.rows_of(*DEVICE_WORK)
    if not len(rows):
        return None
    start = trace.events.start_ns[rows]
    return int(start.min()), int((start + trace.events.duration_ns[rows]).max())


def communication_rows(trace: Trace) -> NDArray[np.intp]:
    """Rows of kernels of communication libraries (`communication_names.LIBRARIES`)."""
    kernels = trace.events.rows_of(Kind.KERNEL)
    names = trace.events.name[kernels]
    communicating = [code for code in distinct(names) if is_communication(trace.text(int(code)))]
    return kernels[np.isin(names, communicating)]


def timeline(trace: Trace, window: Window | None = None) -> Timeline | None:
    """Device time within `window` (ns; the whole trace's device window where None), each part a union of intervals.

    Streams and devices are laid over one another: time with work on any of them is busy. Compute is kernels
    that are no communication; exposed is communication that no compute kernel covers, whatever copies do.
    A window may be longer than the device's work in it: the rest is idle. None without device events.
    """
    whole = device_window(trace)
    if whole is None:
        return None
    low, high = window if window is not None else whole
    kernels = trace.events.rows_of(Kind.KERNEL)
    talking = communication_rows(trace)
    compute = _within(trace, kernels[~np.isin(kernels, talking, assume_unique=True, kind="table")], low, high)
    communication = _within(trace, talking, low, high)
    busy = total(_within(trace, trace.events.rows_of(*DEVICE_WORK), low, high))
    copies = _within(trace, trace.events.rows_of(Kind.MEMCPY, Kind.MEMSET), low, high)
    span = max(high - low, 0)
    return Timeline(
        busy=_share(busy, span),
        idle=_share(span - busy, span),
        compute=_share(total(compute), span),
        communication=_share(total(communication), span),
        exposed_communication=_share(total(subtract(communication, compute)), span),
        memory_copy=_share(total(copies), span),
        span_ms=span / 1e6,
    )


def _within(trace: Trace, rows: NDArray[np.intp], low: int, high: int) -> Intervals:
    start = trace.events.start_ns[rows]
    return clip(union(start, start + trace.events.duration_ns[rows]), low, high)


def _share(ns: int, span: int) -> Share:
    return Share(ms=ns / 1e6, share=ns / span if span else 0.0)
