"""When the host launched each piece of device work, and which work was launched before the recording began."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.distinct import distinct
from longpole.trace import DEVICE_WORK, Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.trace import Trace

NEVER = np.iinfo(np.int64).max  # launched at a time that is not known
LONG_AGO = -NEVER // 2  # launched before the recording began


class Launched(IntEnum):
    """Whether the launch of a piece of device work was recorded; host events count as KNOWN."""

    KNOWN = 0
    BEFORE = 1  # launched before the recording began
    LOST = 2


@dataclass(frozen=True, slots=True)
class Launches:
    """One entry for each row of device work asked for."""

    returned_ns: NDArray[np.int64]  # end of the launching call; NEVER or LONG_AGO
    issuing_ns: NDArray[np.int64]  # host time from the launch before it, of any work, or the recording's start


def launched(trace: Trace) -> NDArray[np.uint8]:
    """Launched of each row: device work without a launch, before the first with one on its stream, is of before."""
    events = trace.events
    work = events.rows_of(*DEVICE_WORK)
    first = np.full(len(trace.lanes), -1, dtype=np.int64)
    known = work[events.launch[work] >= 0]
    lanes, places = np.unique(events.lane[known], return_index=True)
    first[lanes] = known[places]
    found = np.zeros(len(events), dtype=np.uint8)
    lost = work[events.launch[work] < 0]
    found[lost] = np.where(lost < first[events.lane[lost]], int(Launched.BEFORE), int(Launched.LOST))
    return found


def launches(trace: Trace, rows: NDArray[np.int64]) -> Launches:
    """Launches of these rows; -1 among them stands for no work, launched never."""
    events = trace.events
    if not len(events) or not len(rows):
        return Launches(np.full(len(rows), NEVER), np.zeros(len(rows), dtype=np.int64))
    calls = distinct(events.launch[events.launch >= 0])
    row = np.maximum(rows, 0)
    launch = np.where(rows >= 0, events.launch[row], -1)
    at = np.maximum(launch, 0)
    # An op stands in for the call that it makes: when in the op the call comes is not known.
    returned = np.where(events.kind[at] == Kind.OP, events.start_ns[at], events.end_ns[at])
    early = (rows >= 0) & (launched(trace)[row] == Launched.BEFORE)
    returned = np.where(early, LONG_AGO, np.where(launch >= 0, returned, NEVER))
    place = np.searchsorted(calls, launch, side="left") - 1
    before = events.end_ns[calls[np.maximum(place, 0)]] if len(calls) else np.zeros(len(rows), dtype=np.int64)
    before = np.where(place >= 0, before, _host_start(trace))
    return Launches(returned, np.where(launch >= 0, events.start_ns[at] - before, 0))


def _host_start(trace: Trace) -> int:
    """When the host's recording begins: what it did before its first launch kept the device waiting, too."""
    starts = trace.events.start_ns[trace.events.rows_of(Kind.OP, Kind.RUNTIME, Kind.ANNOTATION, Kind.PYTHON)]
    return int(starts.min()) if len(starts) else 0
