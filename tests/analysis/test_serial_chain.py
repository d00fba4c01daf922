"""Work and span of graphs whose times are given: each sum is written out."""

from __future__ import annotations

import pytest

from longpole.analysis.serial_chain import serial_chain
from longpole.analysis.study import LayerTime, PhaseTime
from longpole.errors import LongpoleError
from longpole.trace.build import TraceBuilder
from longpole.trace.graph import StepGraph, check_graph
from longpole.trace.store import dump, load
from longpole.trace.trace import Layer


def layer(forward: float, input_grad: float, weight_grad: float) -> LayerTime:
    return LayerTime(
        "", own_forward_ms=forward, own_backward_ms=input_grad + weight_grad, own_weight_grad_ms=weight_grad
    )


def phases(forward: float, backward: float, loss: float = 0.0) -> list[PhaseTime]:
    return [PhaseTime("forward", forward, 0), PhaseTime("loss", loss, 0), PhaseTime("backward", backward, 0)]


NAMES = [Layer("a"), Layer("b"), Layer("c"), Layer("d")]
# a, then b beside c, then d
DIAMOND = StepGraph(
    layer=(0, 1, 2, 3), is_call=(True,) * 4, section=(0,) * 4, before=(0, 0, 1, 2), after=(1, 2, 3, 3), nodes=9, chain=5
)


def test_a_diamond() -> None:
    """Forward: a 1, b 2, c 5, d 1: the longest way is a, c, d, 7 of 9.

    Backward in input gradients: d 1, b 4, c 2, a 0; weight gradients 1, 3, 1 and 6. d is done at 1; b at 5 and c at 3
    pass on; a begins at 5 and ends with its weight gradient at 11, of 7 + 11 = 18.
    """
    layers = [layer(1, 0, 6), layer(2, 4, 3), layer(5, 2, 1), layer(1, 1, 1)]
    found = serial_chain(DIAMOND, NAMES, layers, phases(9, 18))
    assert found is not None
    assert (found.forward_ms, found.backward_ms) == (7, 11)
    assert (found.time_ms, found.work_ms, found.unseen_ms) == (18, 27, 0)
    assert found.parallelism == pytest.approx(27 / 18)
    assert found.path == ["a", "c", "d"]
    assert (found.layers, found.of_layers) == (3, 4)


def test_a_layer_called_twice_takes_half_its_time_each() -> None:
    """a calls: 3 ms for both. In line: 1.5 + 1.5; backward 2 + 2 of 4."""
    graph = StepGraph((0, 0), (True, True), (0, 0), (0,), (1,), 2, 2)
    found = serial_chain(graph, NAMES, [layer(3, 4, 0)], phases(3, 4))
    assert found is not None
    assert (found.forward_ms, found.backward_ms, found.parallelism) == (3, 4, 1)
    assert (found.layers, found.of_layers) == (2, 2)


def test_time_outside_of_layers_is_spread_over_the_nodes_there_and_the_rest_is_serial() -> None:
    """The layer has 2 of 3 ms forward, the loss node the third. Layer b, frozen, has 4 ms and no vertex: unseen."""
    graph = StepGraph((0, -1), (True, False), (0, 0), (0,), (1,), 2, 2)
    found = serial_chain(graph, NAMES, [layer(2, 1, 1), layer(4, 0, 0)], phases(6, 2.5, loss=1))
    assert found is not None
    assert found.work_ms == 9.5
    assert found.unseen_ms == 4
    assert found.forward_ms == 2 + 1 + 4
    assert found.backward_ms == 0.5 + 1
    assert found.layers == 1


def test_sections_come_one_after_the_other() -> None:
    """Two layers without an edge: side by side in one section, in line in two."""
    layers = [layer(2, 0, 1), layer(3, 0, 1)]
    spans = []
    for section in ((0, 0), (0, 1)):
        graph = StepGraph((0, 1), (True, True), section, (), (), 2, 1)
        found = serial_chain(graph, NAMES, layers, phases(5, 2))
        assert found is not None
        spans.append((found.time_ms, found.layers))
    assert spans == [(3 + 1, 1), (5 + 2, 2)]


def test_without_times_there_are_counts() -> None:
    found = serial_chain(DIAMOND, NAMES, [], [])
    assert found is not None
    assert (found.layers, found.nodes, found.time_ms, found.parallelism) == (3, 5, None, None)
    assert serial_chain(None, NAMES, [], []) is None
    assert serial_chain(StepGraph(), NAMES, [], []) is None


@pytest.mark.parametrize(
    "graph",
    [
        StepGraph((4,), (True,), (0,)),
        StepGraph((0,), (True, True), (0,)),
        StepGraph((0, 1), (True, True), (1, 0)),
        StepGraph((0, 1), (True, True), (0, 0), (1,), (0,)),
        StepGraph((0, 1), (True, True), (0, 0), (0,), (2,)),
        StepGraph((0, 1), (True, True), (0, 0), (-1,), (1,)),
        StepGraph((0,), (True,), (0,), nodes=1, chain=2),
    ],
)
def test_impossible_graphs_are_refused(graph: StepGraph) -> None:
    with pytest.raises(ValueError, match="graph"):
        check_graph(graph, len(NAMES))


def test_the_graph_is_kept_in_a_trace_file() -> None:
    builder = TraceBuilder()
    builder.layers, builder.graph = list(NAMES), DIAMOND
    assert load(dump(builder.build()), "made here").graph == DIAMOND


def test_a_file_with_an_impossible_graph_ends_before_it() -> None:
    builder = TraceBuilder()
    builder.layers, builder.graph = list(NAMES), StepGraph((7,), (True,), (0,))
    with pytest.raises(LongpoleError, match="ends before its first record"):
        load(dump(builder.build()), "made here")


def test_a_graph_made_to_hurt_is_counted_and_not_told() -> None:
    """300 vertices that nothing stands before, and 300 that each wait for all of them: 90,000 edges, a chain of 2."""
    half = 300
    edges = [(first, half + second) for first in range(half) for second in range(half)]
    graph = StepGraph(
        layer=(0,) * 2 * half,
        is_call=(True,) * 2 * half,
        section=(0,) * 2 * half,
        before=tuple(first for first, _ in edges),
        after=tuple(second for _, second in edges),
    )
    found = serial_chain(graph, NAMES, [], [])
    assert found is not None
    assert (found.layers, found.of_layers, found.waits) == (2, 600, [])
