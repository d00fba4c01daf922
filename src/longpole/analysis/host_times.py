"""The time of each event of a live run on a host: deep steps' own times, brought to the ledger's."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.probe import without_probe
from longpole.analysis.segments import steps_at
from longpole.trace import Kind, Level, Phase

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.analysis.attribution import Attribution
    from longpole.analysis.ledger import Ledger
    from longpole.trace import Trace

FORWARD_PHASES = (Phase.FORWARD, Phase.LOSS)


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds a step of each event, whole-table shape, and what of the step no event explains."""

    ms: NDArray[np.float64]
    weight: NDArray[np.float64]  # how often a step has this event: 1, less where steps differ, 0 where unused
    step_ms: float

    @property
    def unexplained_ms(self) -> float:
        """Python between marks, and what the level-0 steps had beyond the deep ones: the host's."""
        return max(self.step_ms - float(self.ms.sum()), 0.0)


def times_of(trace: Trace, attribution: Attribution, ledger: Ledger) -> Times:
    """Own times of events, less what recording them cost, so that each phase sums to its ledger."""
    weight, own_ns = typical(trace, attribution)
    own_ms = own_ns * weight / 1e6
    events, rows = trace.events, attribution.rows
    recorded = np.zeros(len(events))
    recorded[rows] = (events.kind[rows] == Kind.OP) * weight[rows]
    inside = rows[events.parent[rows] >= 0]
    np.add.at(recorded, events.parent[inside], weight[inside])
    ms = np.zeros(len(events))
    most = _most_probe_ms(trace)
    for phase in Phase:
        in_gaps = ledger.gap_ms.get(phase, 0.0)
        here = rows[attribution.phase[rows] == phase]
        # A mark covers its phase whole; a gap has holes.
        under, between = here[attribution.marked[here]], here[~attribution.marked[here]]
        ms[under] = without_probe(own_ms[under], recorded[under], _marked_target(ledger, phase, in_gaps), most)
        # No event covers those holes, so the events of a gap are never stretched to fill it.
        limit = min(in_gaps, float(own_ms[between].sum()))
        ms[between] = without_probe(own_ms[between], recorded[between], limit, most)
    return Times(ms, weight, float(ledger.wall_ms.mean()))


def _most_probe_ms(trace: Trace) -> float:
    """What recording an event can have cost: twice what it cost in a tight loop, since a step's caches are cold."""
    cost_ns = trace.info.facts.get("event_ns")
    return 2 * float(cost_ns) / 1e6 if cost_ns else np.inf


def typical(trace: Trace, attribution: Attribution) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight and own nanoseconds of each event, hiccups of single steps left out.

    Steps that ran the same ops in the same order stand for each other: the first of them has, for each event,
    the lower median over all, and counts as often as there are such steps.
    """
    weight = np.zeros(len(trace.events))
    own_ns = np.zeros(len(trace.events))
    alike: dict[bytes, list[NDArray[np.intp]]] = defaultdict(list)
    windows = steps_at(trace, Level.OPS)
    for window in windows:
        rows = attribution.rows[attribution.step[attribution.rows] == window.index]
        alike[trace.events.name[rows].tobytes()].append(rows)
    for group in alike.values():
        weight[group[0]] = len(group) / len(windows)
        own = np.sort(np.stack([attribution.own_ns[rows] for rows in group]), axis=0)
        own_ns[group[0]] = own[(len(group) - 1) // 2]
    return weight, own_ns


def _marked_target(ledger: Ledger, phase: Phase, in_gaps: float) -> float:
    return max(ledger.mean_ms(phase) - in_gaps, 0.0)


def works_of(attribution: Attribution, times: Times) -> NDArray[np.int64]:
    """Rows of the ops that do work in the steps that count."""
    rows = attribution.rows[times.weight[attribution.rows] > 0]
    return np.unique(attribution.work[rows][attribution.work[rows] >= 0])
