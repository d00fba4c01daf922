"""Timelines of many windows of one trace at once: the unions are made once, for whatever number of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_exclusive import COMMUNICATION, COMPUTE, COPY, CUSTOM, Pieces, measure_between
from longpole.analysis.intervals import Intervals, subtract, union
from longpole.analysis.study import Share, Timeline

if TYPE_CHECKING:
    from collections.abc import Sequence


def timelines(pieces: Pieces, windows: Sequence[tuple[int, int]]) -> list[Timeline]:
    """What `longpole.analysis.timeline.timeline` says of each window, ns."""
    if not windows:
        return []
    compute, communication = _union(pieces, COMPUTE, CUSTOM), _union(pieces, COMMUNICATION)
    sets = {
        "busy": union(pieces.start_ns, pieces.end_ns),
        "compute": compute,
        "communication": communication,
        "exposed_communication": subtract(communication, compute),
        "memory_copy": _union(pieces, COPY),
    }
    low, high = (np.array(edge, dtype=np.int64) for edge in zip(*windows, strict=True))
    times = {name: measure_between(one, low, high).tolist() for name, one in sets.items()}
    spans: list[int] = (high - low).tolist()
    return [
        Timeline(
            **{name: _share(values[index], span) for name, values in times.items()},
            idle=_share(span - times["busy"][index], span),
            span_ms=span / 1e6,
        )
        for index, span in enumerate(spans)
    ]


def _union(pieces: Pieces, *precedences: int) -> Intervals:
    mine = np.isin(pieces.precedence, precedences)
    return union(pieces.start_ns[mine], pieces.end_ns[mine])


def _share(ns: int, span: int) -> Share:
    return Share(ms=ns / 1e6, share=ns / span if span else 0.0)
