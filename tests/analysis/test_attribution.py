"""Whose each event is, on steps written by hand: layers by numbers, phases by marks, roles by what was seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from longpole.analysis.attribution import ENGINE, Attribution, attribute, loss_share
from longpole.trace import Kind, Level, OpClass, Phase, Role, StepWindow
from longpole.trace.build import Piece, TraceBuilder, events_piece
from longpole.trace.trace import Lane, Layer, Trace

NODE = f"{ENGINE}AddmmBackward0"
ACCUMULATE = f"{ENGINE}torch::autograd::AccumulateGrad"


class Event(NamedTuple):
    name: str
    kind: Kind
    start: int
    end: int
    sequence: int = -1
    layer: int = -1
    last_sequence: int = -1


def trace_of(events: list[Event], gradients: list[tuple[int, str, int, Role, float]] | None = None) -> Trace:
    """One step of 1000 ns with ops, whose nodes are numbered from 0; layers 0 (a container), 1 and 2 in it."""
    builder = TraceBuilder()
    builder.lane(Lane("training thread", "host"))
    builder.layers = [
        Layer("net", "Net", -1, container=True),
        Layer("net.a", "Linear", 0, container=False),
        Layer("net.b", "Linear", 0, container=False),
    ]
    builder.steps.append(StepWindow(0, 0, 1000, Level.OPS, 0))
    columns = {
        "start_ns": [event.start for event in events],
        "duration_ns": [event.end - event.start for event in events],
        "name": [builder.intern(event.name) for event in events],
        "kind": [event.kind for event in events],
        "lane": [0] * len(events),
        "layer": [event.layer for event in events],
        "sequence": [event.sequence for event in events],
        "last_sequence": [event.last_sequence for event in events],
    }
    builder.add(events_piece({name: np.array(column) for name, column in columns.items()}))
    if gradients:
        names = ("sequence", "op", "ordinal", "role", "weight_share")
        rows = [(sequence, builder.intern(op), *rest) for sequence, op, *rest in gradients]
        seen = {name: np.array([row[at] for row in rows]) for at, name in enumerate(names)}
        builder.add(Piece({}, {}, seen))
    return builder.build()


# The container's call makes nodes 0 to 4; its first layer 0 and 1, its second 2. Node 3 is its own.
FORWARD = [
    Event("forward", Kind.PHASE, 100, 400),
    Event("net", Kind.LAYER, 110, 390, sequence=0, layer=0, last_sequence=4),
    Event("net.a", Kind.LAYER, 120, 200, sequence=0, layer=1, last_sequence=2),
    Event("aten::addmm", Kind.OP, 130, 190, sequence=1),
    Event("net.b", Kind.LAYER, 210, 300, sequence=2, layer=2, last_sequence=3),
    Event("aten::addmm", Kind.OP, 220, 290, sequence=2),
    Event("aten::relu", Kind.OP, 310, 380, sequence=3),
]
BACKWARD = [
    Event("backward", Kind.PHASE, 500, 900),
    Event(f"{ENGINE}ReluBackward0", Kind.OP, 510, 550, sequence=3),
    Event(NODE, Kind.OP, 560, 650, sequence=2),
    Event("aten::mm", Kind.OP, 570, 600),
    Event("aten::mm", Kind.OP, 605, 645),
    Event(ACCUMULATE, Kind.OP, 660, 680),
    Event(NODE, Kind.OP, 700, 800, sequence=1),
    Event("aten::mm", Kind.OP, 710, 790),
    Event(f"{ENGINE}NllLossBackward0", Kind.OP, 820, 850, sequence=4),
]


def rows_of(trace: Trace, name: str) -> list[int]:
    return [row for row in range(len(trace.events)) if trace.name_of(row) == name]


def value(found: Attribution, column: str, row: int) -> int:
    return int(getattr(found, column)[row])


def test_backward_belongs_to_the_layer_whose_call_made_the_node() -> None:
    trace = trace_of(FORWARD + BACKWARD)
    found = attribute(trace)
    of_b, of_a = rows_of(trace, NODE)
    assert [value(found, "layer", row) for row in (of_b, of_a)] == [2, 1]
    assert value(found, "layer", rows_of(trace, f"{ENGINE}ReluBackward0")[0]) == 0, "made between its children"
    assert value(found, "layer", rows_of(trace, f"{ENGINE}NllLossBackward0")[0]) == -1, "made after the last call"


def test_accumulating_belongs_to_the_node_before_it_and_is_the_weights() -> None:
    trace = trace_of(FORWARD + BACKWARD)
    found = attribute(trace)
    [row] = rows_of(trace, ACCUMULATE)
    assert value(found, "layer", row) == 2
    assert value(found, "role", row) == Role.WEIGHT_GRAD


def test_ops_inside_a_node_are_its_layers_and_own_time_adds_up_to_the_marks() -> None:
    trace = trace_of(FORWARD + BACKWARD)
    found = attribute(trace)
    assert [value(found, "layer", row) for row in rows_of(trace, "aten::mm")] == [2, 2, 1]
    by_phase = {phase: int(found.own_ns[found.rows][found.phase[found.rows] == phase].sum()) for phase in Phase}
    assert by_phase[Phase.FORWARD] == 300
    assert by_phase[Phase.BACKWARD] == 400


def test_roles_are_those_that_the_tensors_showed_in_the_order_of_the_ops() -> None:
    """Of node 2 the first mm read the weight, the second made the weight's gradient; of node 1 there is but one."""
    seen = [
        (2, "aten::mm", 0, Role.INPUT_GRAD, 0.0),
        (2, "aten::mm", 1, Role.WEIGHT_GRAD, 1.0),
        (1, "aten::mm", 0, Role.WEIGHT_GRAD, 1.0),
    ]
    trace = trace_of(FORWARD + BACKWARD, seen)
    found = attribute(trace)
    roles = [value(found, "role", row) for row in rows_of(trace, "aten::mm")]
    assert roles == [Role.INPUT_GRAD, Role.WEIGHT_GRAD, Role.WEIGHT_GRAD]
    of_b, of_a = rows_of(trace, NODE)
    assert found.weight_share[of_b] == pytest.approx(40 / 70), "the engine's own time divides as its ops do"
    assert found.weight_share[of_a] == pytest.approx(1.0)


def test_a_forward_inside_backward_is_recomputation() -> None:
    again = [
        Event("net.a", Kind.LAYER, 705, 760, sequence=9, layer=1, last_sequence=10),
        Event("aten::addmm", Kind.OP, 711, 755, sequence=9),
    ]
    trace = trace_of(FORWARD + [event for event in BACKWARD if event.start != 710] + again)
    found = attribute(trace)
    row = rows_of(trace, "aten::addmm")[-1]
    assert value(found, "role", row) == Role.RECOMPUTE
    assert value(found, "layer", row) == 1
    assert value(found, "phase", row) == Phase.BACKWARD


def test_a_loss_inside_the_model_is_loss() -> None:
    """Of 300 ns of the forward mark, 40 are the loss that the network computes itself."""
    loss = Event("aten::cross_entropy_loss", Kind.OP, 310, 350, sequence=3)
    trace = trace_of([*FORWARD[:-1], loss, *BACKWARD])
    found = attribute(trace)
    [row] = rows_of(trace, "aten::cross_entropy_loss")
    assert value(found, "phase", row) == Phase.LOSS
    assert loss_share(found, marked=True) == pytest.approx(40 / 300)
    assert loss_share(found, marked=False) == 0


def test_work_between_marks_is_forward_where_backward_ran_its_node() -> None:
    """Code with no module at all: an op made node 2, which ran; the one before made none, and is the batch."""
    between = [
        Event("optimizer", Kind.PHASE, 0, 10),
        Event("aten::index", Kind.OP, 20, 60),
        Event("aten::linear", Kind.OP, 100, 300, sequence=2),
    ]
    trace = trace_of(between + BACKWARD)
    found = attribute(trace)
    assert value(found, "phase", rows_of(trace, "aten::linear")[0]) == Phase.FORWARD
    assert value(found, "phase", rows_of(trace, "aten::index")[0]) == Phase.OTHER


def test_an_unknown_op_is_unclassified_and_a_python_function_is_the_hosts() -> None:
    extra = [
        Event("mylib::magic", Kind.OP, 311, 320),
        Event("MyFunction", Kind.OP, 325, 330),
    ]
    trace = trace_of(sorted([*FORWARD[:-1], *extra], key=lambda event: event.start) + BACKWARD)
    found = attribute(trace)
    assert value(found, "op_class", rows_of(trace, "mylib::magic")[0]) == OpClass.UNCLASSIFIED
    assert value(found, "op_class", rows_of(trace, "MyFunction")[0]) == OpClass.HOST
    assert value(found, "op_class", rows_of(trace, "aten::mm")[0]) == OpClass.MATMUL
