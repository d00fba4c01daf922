"""One step of a trace as bars for the page: phases, layers, ops and device work, lane by lane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.trace import Interner, Kind, Level, StepWindow, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from longpole.trace import Trace

SHOWN = (
    Kind.PHASE,
    Kind.LAYER,
    Kind.ANNOTATION,
    Kind.OP,
    Kind.COLLECTIVE,
    Kind.KERNEL,
    Kind.MEMCPY,
    Kind.MEMSET,
)
LANES = 24
MARK = "ProfilerStep#"


def typical_step(trace: Trace) -> StepWindow | None:
    """Of the steps that hold ops (else of those measured deepest) the one of median length.

    The whole trace where it has no steps.
    """
    steps = trace.steps or _marked_steps(trace)
    if steps:
        levels = {step.level for step in steps}
        best = Level.OPS if Level.OPS in levels else max(levels)
        ranked = sorted((s for s in steps if s.level == best), key=lambda s: s.end_ns - s.start_ns)
        return ranked[len(ranked) // 2]
    if not len(trace.events):
        return None
    return StepWindow(-1, int(trace.events.start_ns[0]), int(trace.events.end_ns.max()))


def _marked_steps(trace: Trace) -> list[StepWindow]:
    """The steps that a profiler's schedule marked, where the trace names them (old ones as ops)."""
    events = trace.events
    names = {i: text.removeprefix(MARK) for i, text in enumerate(trace.strings) if text.startswith(MARK)}
    numbers = {i: int(text) for i, text in names.items() if text.isascii() and text.isdecimal() and len(text) < 10}
    rows = np.flatnonzero(np.isin(events.name, list(numbers)) & np.isin(events.kind, (Kind.ANNOTATION, Kind.OP)))
    return [
        StepWindow(numbers[int(events.name[row])], int(events.start_ns[row]), int(events.end_ns[row]))
        for row in rows.tolist()
    ]


def one_step(trace: Trace, limit: int) -> dict[str, Any] | None:
    """Bars of a typical step, at most `limit`, the longest: None where the trace has nothing to show.

    `lanes` hold bars as [start_ms, duration_ms, depth, row of `names`, kind]; `left_out` counts the rest.
    """
    step = typical_step(trace)
    if step is None:
        return None
    events = trace.events
    inside = (events.start_ns < step.end_ns) & (events.end_ns > step.start_ns)
    rows = np.flatnonzero(inside & np.isin(events.kind, SHOWN))
    if not len(rows):
        return None
    kept = rows[np.argsort(-events.duration_ns[rows], kind="stable")[:limit]]
    kept.sort()
    lanes, names = _lanes(trace, kept, step)
    return {
        "step": step.index,
        "span_ms": (step.end_ns - step.start_ns) / 1e6,
        "lanes": lanes[:LANES],
        "names": names,
        "left_out": len(rows) - sum(len(lane["bars"]) for lane in lanes[:LANES]),
    }


def _lanes(trace: Trace, rows: NDArray[np.intp], step: StepWindow) -> tuple[list[dict[str, Any]], list[str]]:
    """Lanes by the time that is in them, hosts before streams, and the texts that their bars point at."""
    text = Interner()
    depth = _depths(trace, rows)
    by_lane: dict[int, list[list[float | int | str]]] = {}
    for row in rows.tolist():
        start = max(int(trace.events.start_ns[row]), step.start_ns)
        end = min(int(trace.events.end_ns[row]), step.end_ns)
        bar = [(start - step.start_ns) / 1e6, (end - start) / 1e6, depth[row], text(trace.name_of(row)[:200])]
        by_lane.setdefault(int(trace.events.lane[row]), []).append([*bar, label(Kind(int(trace.events.kind[row])))])
    order = sorted(by_lane, key=lambda i: (trace.lanes[i].kind != "host", -sum(float(b[1]) for b in by_lane[i])))
    lanes = [{"name": trace.lanes[i].name, "kind": trace.lanes[i].kind, "bars": by_lane[i]} for i in order]
    return lanes, text.strings()


def _depths(trace: Trace, rows: Sequence[int] | NDArray[np.intp]) -> dict[int, int]:
    """How many of the kept rows are round each; a parent left out does not count."""
    depth: dict[int, int] = {}
    for row in rows:
        up, hops = int(trace.events.parent[row]), 0
        while up >= 0 and up not in depth and hops < 200:
            up, hops = int(trace.events.parent[up]), hops + 1
        depth[int(row)] = depth[up] + 1 if up in depth else 0
    return depth
