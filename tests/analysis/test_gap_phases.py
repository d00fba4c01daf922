"""Work between marks is named by what was sampled at the same part of the same gap."""

from __future__ import annotations

import numpy as np

from longpole.analysis.gap_phases import GapPhases
from longpole.analysis.segments import marks_by_step
from longpole.trace import Kind, Level, Phase, StepWindow
from longpole.trace.build import Piece, TraceBuilder, events_piece
from longpole.trace.trace import Lane

GAP = (Phase.NOBODY, Phase.FORWARD)


def gaps_of(samples: list[tuple[int, Phase]]) -> GapPhases:
    """One sampled step of 200 ns, forward from 100 on; before it the gap."""
    builder = TraceBuilder()
    builder.lane(Lane("training thread", "host"))
    builder.steps.append(StepWindow(0, 0, 200, Level.SITES))
    mark = {
        "start_ns": [100],
        "duration_ns": [100],
        "name": [builder.intern("forward")],
        "kind": [Kind.PHASE],
        "lane": [0],
    }
    builder.add(events_piece({name: np.array(column) for name, column in mark.items()}))
    columns = {
        "time_ns": [time for time, _ in samples],
        "loop_line": [builder.intern("t.py:1")] * len(samples),
        "site": [builder.intern("t.py:1")] * len(samples),
        "flow": [int(phase) for _, phase in samples],
    }
    builder.add(Piece({}, {name: np.array(column) for name, column in columns.items()}, {}))
    trace = builder.build()
    return GapPhases(trace, marks_by_step(trace))


def test_an_update_before_the_batch_is_told_from_it_by_where_it_stands() -> None:
    found = gaps_of([(10, Phase.OPTIMIZER), (60, Phase.OPTIMIZER), (80, Phase.NOBODY), (90, Phase.DATA)])
    assert [found.at(GAP, part) for part in (0.0, 0.3, 0.69)] == [Phase.OPTIMIZER] * 3
    assert found.at(GAP, 0.82) == Phase.OTHER
    assert found.at(GAP, 1.0) == Phase.DATA


def test_few_samples_and_another_gap_tell_nothing() -> None:
    assert gaps_of([(10, Phase.DATA), (20, Phase.DATA)]).at(GAP, 0.1) is None
    assert gaps_of([(10, Phase.DATA)] * 3).at((Phase.FORWARD, Phase.NOBODY), 0.1) is None


def test_forward_work_is_told_by_its_autograd_nodes_and_not_by_its_line() -> None:
    assert gaps_of([(10, Phase.FORWARD)] * 3).at(GAP, 0.1) is None
