"""Waiting for other ranks inside backward, on a step written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from longpole.analysis.attribution import ENGINE, attribute
from longpole.analysis.ledger import make_ledger
from longpole.analysis.make import host_study
from longpole.analysis.waiting import with_communication, with_waiting
from longpole.trace import Kind, Level, Phase, StepWindow
from longpole.trace.build import TraceBuilder, events_piece
from longpole.trace.trace import Lane, Trace

US = 1_000
# Backward from 20 to 120: a node until 80, in which a collective of 4 is begun; then buckets are copied for 5.
BACKWARD = [
    ("forward", Kind.PHASE, 0, 20),
    ("backward", Kind.PHASE, 20, 120),
    (f"{ENGINE}AddmmBackward0", Kind.OP, 22, 80),
    ("aten::mm", Kind.OP, 25, 70),
    ("c10d::allreduce_", Kind.OP, 74, 78),
    ("aten::copy_", Kind.OP, 112, 117),
]
WAIT = 120 - 80 - 5


def trace_of(events: list[tuple[str, Kind, int, int]]) -> Trace:
    """Two steps of 130 us: one timed, one with its ops."""
    builder = TraceBuilder()
    builder.lane(Lane("training thread", "host"))
    for index, level in enumerate((Level.PHASES, Level.OPS)):
        builder.steps.append(StepWindow(index, 130 * US * index, 130 * US * (index + 1), level))
        here = [event for event in events if event[1] == Kind.PHASE or level == Level.OPS]
        columns = {
            "start_ns": [(130 * index + start) * US for _, _, start, _ in here],
            "duration_ns": [(end - start) * US for _, _, start, end in here],
            "name": [builder.intern(name) for name, *_ in here],
            "kind": [kind for _, kind, *_ in here],
            "lane": [0] * len(here),
            "sequence": [7 if name.startswith(ENGINE) else -1 for name, *_ in here],
        }
        builder.add(events_piece({name: np.array(column) for name, column in columns.items()}))
    return builder.build()


def test_the_wait_is_what_backward_takes_after_its_last_node_in_no_op() -> None:
    trace = trace_of(BACKWARD)
    before = attribute(trace)
    after, share = with_waiting(trace, before)
    assert share == pytest.approx(WAIT / 100)
    assert after.own_ns.sum() == before.own_ns.sum(), "nothing is lost"
    [collective] = [row for row in after.rows.tolist() if trace.name_of(row) == "c10d::allreduce_"]
    assert after.phase[collective] == Phase.COMMUNICATION
    assert after.own_ns[collective] == (4 + WAIT) * US


def test_the_step_says_communication_and_still_adds_up() -> None:
    study = host_study(trace_of(BACKWARD))
    phases = {phase.phase: phase.ms for phase in study.phases}
    assert phases["communication"] == pytest.approx(WAIT / 1e3)
    assert phases["backward"] == pytest.approx((100 - WAIT) / 1e3)
    assert sum(phase.ms for phase in study.phases) == pytest.approx(0.130)


def test_without_a_collective_the_tail_of_backward_stays_backward() -> None:
    trace = trace_of([event for event in BACKWARD if not event[0].startswith("c10d")])
    before = attribute(trace)
    after, share = with_waiting(trace, before)
    assert (after, share) == (before, 0.0)
    ledger = make_ledger(trace)
    assert with_communication(ledger, share) is ledger


def test_a_collective_begun_in_forward_is_no_wait_of_backward() -> None:
    moved = [("c10d::allreduce_", Kind.OP, 4, 8) if event[0].startswith("c10d") else event for event in BACKWARD]
    assert with_waiting(trace_of(moved), attribute(trace_of(moved)))[1] == 0.0
