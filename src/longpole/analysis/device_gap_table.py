"""The idleness of a device by cause, with the evidence for each: one row a cause, in words."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_gaps import Cause, Gaps
from longpole.analysis.device_parts import CAUSE_NAMES
from longpole.analysis.device_tree import innermost_at, nearest
from longpole.analysis.study import Gap
from longpole.analysis.timeline import device_window
from longpole.trace import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.analysis.device_attribution import Attribution
    from longpole.trace import Trace

MOST_NAMES = 3
SHORT_NAME = 60


def gap_table(trace: Trace, found: Attribution, gaps: Gaps) -> list[Gap]:
    """Idleness from the first device event to the last; the rows sum to it, shares are of that window."""
    window = device_window(trace)
    if window is None:
        return []
    low, high = window
    inside = np.maximum(np.minimum(gaps.end_ns, high) - np.maximum(gaps.start_ns, low), 0)
    names = _host_names(trace, found, gaps)
    rows: list[Gap] = []
    for cause in Cause:
        mine = np.flatnonzero((gaps.cause == cause) & (inside > 0))
        if not len(mine):
            continue
        ns = int(inside[mine].sum())
        rows.append(
            Gap(
                cause=CAUSE_NAMES[cause],
                ms=ns / 1e6,
                share=ns / (high - low),
                count=len(np.unique(gaps.number[mine])),
                evidence=_evidence(trace, cause, gaps, mine, inside, names),
            )
        )
    return sorted(rows, key=lambda row: -row.ms)


def _host_names(trace: Trace, found: Attribution, gaps: Gaps) -> list[str]:
    """What the host thread that kept the device waiting was in, in the middle of each stretch."""
    middle = (gaps.start_ns + gaps.end_ns) // 2
    # Of a stretch after a wait, the wait is what counts: look where the stretch begins.
    looked = np.where(gaps.cause == Cause.SYNCHRONIZATION, gaps.start_ns - 1, middle)
    names = [""] * len(looked)
    framework = nearest(trace, np.isin(trace.events.kind, (Kind.OP, Kind.COLLECTIVE)))
    for lane in np.unique(gaps.lane[gaps.lane >= 0]).tolist():
        mine = np.flatnonzero(gaps.lane == lane)
        rows = innermost_at(trace, lane, looked[mine])
        for index, row in zip(mine.tolist(), rows.tolist(), strict=True):
            names[index] = _name(trace, found, framework, row)
    return names


def _name(trace: Trace, found: Attribution, framework: NDArray[np.int64], row: int) -> str:
    """The op and the user's place round a host row; what the runtime does where there is no op."""
    if row < 0:
        return ""
    site = found.sites[int(found.site[row])] if found.site[row] >= 0 else ""
    op = int(framework[row])
    own = trace.name_of(op) if op >= 0 else trace.name_of(row) if trace.events.kind[row] == Kind.RUNTIME else ""
    return " in ".join(part[:SHORT_NAME] for part in (own, site) if part)


def _evidence(
    trace: Trace, cause: Cause, gaps: Gaps, mine: NDArray[np.intp], inside: NDArray[np.int64], names: list[str]
) -> str:
    top = _top_names(mine, inside, names)
    during = f": {top}" if top else ""
    if cause is Cause.LAUNCH:
        each = float(np.median(inside[mine])) / 1e3
        return f"the host was issuing, the queue was empty, {each:.3g} us each{during}"
    said = {
        Cause.DATA: f"the host was fetching data{during}",
        Cause.COLLECTIVE: f"the host waited for other ranks{during}",
        Cause.SYNCHRONIZATION: f"the host had waited for the device and came late with the next work{during}",
        Cause.HOST: f"the host was at something else for over 0.5 ms{during or ': no op, Python'}",
        Cause.STREAM: "the next work was queued and waited for another stream",
        Cause.DEVICE: f"from one queued kernel to the next, {np.median(inside[mine]) / 1e3:.3g} us each",
    }
    return said.get(cause) or _unexplained(trace, gaps, mine)


def _unexplained(trace: Trace, gaps: Gaps, mine: NDArray[np.intp]) -> str:
    after = gaps.ends_with[mine]
    launch = np.where(after >= 0, trace.events.launch[np.maximum(after, 0)], -1)
    if np.mean(launch >= 0) < 0.5:
        return "no launch was recorded for the work after the gap"
    calls = {trace.name_of(row) for row in np.unique(launch[launch >= 0]).tolist()}
    graphs = " (a graph, whose inside older recorders do not see)" if any("Graph" in call for call in calls) else ""
    return f"the next work was queued, and what held it was not recorded{graphs}"


def _top_names(mine: NDArray[np.intp], inside: NDArray[np.int64], names: list[str]) -> str:
    sums: dict[str, float] = defaultdict(float)
    for index in mine.tolist():
        if names[index]:
            sums[names[index]] += float(inside[index]) / 1e6
    ranked = sorted(sums.items(), key=lambda item: -item[1])[:MOST_NAMES]
    return ", ".join(f"{name} {ms:.3g} ms" for name, ms in ranked)
