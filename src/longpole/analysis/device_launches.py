"""When the host launched each piece of device work, and which work was launched before the recording began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.trace import DEVICE_WORK, Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.trace import Trace

NEVER = np.iinfo(np.int64).max  # launched at a time that is not known
LONG_AGO = -NEVER // 2  # launched before the recording began


@dataclass(frozen=True, slots=True)
class Launches:
    """One entry for each row of device work asked for."""

    returned_ns: NDArray[np.int64]  # end of the launching call; NEVER or LONG_AGO
    issuing_ns: NDArray[np.int64]  # host time from the launch before it, of any work, to the start of this one


def early_work(trace: Trace) -> NDArray[np.bool_]:
    """Whether each row is device work without a launch, before the first with one on its stream."""
    events = trace.events
    work = events.rows_of(*DEVICE_WORK)
    first = np.full(len(trace.lanes), -1, dtype=np.int64)
    launched = work[events.launch[work] >= 0]
    lanes, places = np.unique(events.lane[launched], return_index=True)
    first[lanes] = launched[places]
    early = np.zeros(len(events), dtype=bool)
    early[work] = (events.launch[work] < 0) & (work < first[events.lane[work]])
    return early


def launches(trace: Trace, rows: NDArray[np.int64]) -> Launches:
    """Launches of these rows; -1 among them stands for no work, launched never."""
    events = trace.events
    if not len(events) or not len(rows):
        return Launches(np.full(len(rows), NEVER), np.zeros(len(rows), dtype=np.int64))
    calls = np.unique(events.launch[events.launch >= 0])
    row = np.maximum(rows, 0)
    launch = np.where(rows >= 0, events.launch[row], -1)
    at = np.maximum(launch, 0)
    # An op stands in for the call that it makes: when in the op the call comes is not known.
    returned = np.where(events.kind[at] == Kind.OP, events.start_ns[at], events.end_ns[at])
    early = (rows >= 0) & early_work(trace)[row]
    returned = np.where(early, LONG_AGO, np.where(launch >= 0, returned, NEVER))
    place = np.searchsorted(calls, launch, side="left") - 1
    before = events.end_ns[calls[np.maximum(place, 0)]] if len(calls) else np.zeros(len(rows), dtype=np.int64)
    issuing = np.where((launch >= 0) & (place >= 0), events.start_ns[at] - before, 0)
    return Launches(returned, issuing)
