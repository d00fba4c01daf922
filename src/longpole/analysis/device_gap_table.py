"""The idleness of a device by cause, with the evidence for each: one row a cause, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_gaps import Cause, Gaps
from longpole.analysis.device_parts import CAUSE_NAMES
from longpole.analysis.device_tree import innermost_at, nearest
from longpole.analysis.device_words import ms, plain
from longpole.analysis.distinct import distinct, distinct_with_inverse
from longpole.analysis.study import Gap
from longpole.analysis.timeline import device_window
from longpole.trace import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.analysis.device_attribution import Attribution
    from longpole.trace import Trace

MOST_NAMES = 3
SHORT_NAME = 48


@dataclass(frozen=True, slots=True)
class Places:
    """Where the host was in each stretch: the row of its op or call and the row of `sites`, -1 where not known."""

    row: NDArray[np.int64]
    site: NDArray[np.int64]


def gap_table(trace: Trace, found: Attribution, gaps: Gaps) -> list[Gap]:
    """Idleness from the first device event to the last; the rows sum to it, shares are of that window."""
    window = device_window(trace)
    if window is None:
        return []
    low, high = window
    inside = np.maximum(np.minimum(gaps.end_ns, high) - np.maximum(gaps.start_ns, low), 0)
    places = _places(trace, found, gaps)
    rows: list[Gap] = []
    for cause in Cause:
        mine = np.flatnonzero((gaps.cause == cause) & (inside > 0))
        if not len(mine):
            continue
        ns = int(inside[mine].sum())
        top = _top_places(trace, found, places, mine, inside)
        rows.append(
            Gap(
                cause=CAUSE_NAMES[cause],
                ms=ns / 1e6,
                share=ns / (high - low),
                count=len(distinct(gaps.number[mine])),
                evidence=_evidence(trace, cause, gaps, mine, inside, top),
            )
        )
    return sorted(rows, key=lambda row: -row.ms)


def _places(trace: Trace, found: Attribution, gaps: Gaps) -> Places:
    """What the host thread that kept the device waiting was in, in the middle of each stretch."""
    middle = (gaps.start_ns + gaps.end_ns) // 2
    # Of a stretch after a wait, the wait is what counts: look where the stretch begins.
    looked = np.where(gaps.cause == Cause.SYNCHRONIZATION, gaps.start_ns - 1, middle)
    row = np.full(len(looked), -1, dtype=np.int64)
    for lane in distinct(gaps.lane[gaps.lane >= 0]).tolist():
        mine = np.flatnonzero(gaps.lane == lane)
        row[mine] = innermost_at(trace, lane, looked[mine])
    op = nearest(trace, trace.events.mask_of(Kind.OP, Kind.COLLECTIVE))
    known = np.maximum(row, 0)
    site = np.where(row >= 0, found.site[known], -1)
    is_call = trace.events.kind[known] == Kind.RUNTIME
    return Places(np.where(row < 0, -1, np.where(op[known] >= 0, op[known], np.where(is_call, row, -1))), site)


def _top_places(
    trace: Trace, found: Attribution, places: Places, mine: NDArray[np.intp], inside: NDArray[np.int64]
) -> str:
    """The places with most of the time, as words."""
    row, site = places.row[mine], places.site[mine]
    name = np.where(row >= 0, trace.events.name[np.maximum(row, 0)], -1).astype(np.int64)
    key = (name + 1) * (len(found.sites) + 1) + site + 1
    keys, inverse = distinct_with_inverse(key)
    sums = np.bincount(inverse.reshape(-1), weights=inside[mine])
    sums[keys == 0] = 0.0
    ranked = [int(index) for index in np.argsort(-sums, kind="stable")[:MOST_NAMES] if sums[index] > 0]
    said: list[str] = []
    for index in ranked:
        code, place = divmod(int(keys[index]), len(found.sites) + 1)
        words = (trace.text(code - 1), found.sites[place - 1] if place else "")
        said.append(f"{' in '.join(word[:SHORT_NAME] for word in words if word)} {ms(float(sums[index]) / 1e6)}")
    return ", ".join(said)


def _evidence(
    trace: Trace, cause: Cause, gaps: Gaps, mine: NDArray[np.intp], inside: NDArray[np.int64], top: str
) -> str:
    """A sentence: the figure that tells this cause from others, then where most of it is."""
    during = f": {top}" if top else ""
    each = f"{plain(float(np.median(inside[mine])) / 1e3)} us each"
    said = {
        Cause.LAUNCH: f"queue empty, host issuing, {each}{during}",
        Cause.DATA: f"host fetching data{during}",
        Cause.COLLECTIVE: f"host waiting for other ranks{during}",
        Cause.SYNCHRONIZATION: f"host had waited for the device and came late{during}",
        Cause.HOST: f"over 0.5 ms without a launch{during or ': no op, Python'}",
        Cause.STREAM: f"next work queued behind another stream, {each}",
        Cause.DEVICE: f"from one queued kernel to the next, {each}",
    }
    return said.get(cause) or _unexplained(trace, gaps, mine, inside)


def _unexplained(trace: Trace, gaps: Gaps, mine: NDArray[np.intp], inside: NDArray[np.int64]) -> str:
    after = gaps.ends_with[mine]
    launch = np.where(after >= 0, trace.events.launch[np.maximum(after, 0)], -1)
    whole = float(inside[mine].sum())
    if inside[mine][launch >= 0].sum() < 0.5 * whole:
        return "no launch recorded for the work after the gap"
    graphs = [code for code, text in enumerate(trace.strings) if "GraphLaunch" in text]
    by_graph = (launch >= 0) & np.isin(trace.events.name[np.maximum(launch, 0)], graphs)
    if inside[mine][by_graph].sum() > 0.5 * whole:
        return "inside a launched graph: the recorder did not see all its work"
    return "next work queued; what held it was not recorded"
