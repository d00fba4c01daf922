"""What of one step must wait for what: its autograd graph, module calls taken as wholes."""

from __future__ import annotations

import msgspec


class StepGraph(msgspec.Struct, frozen=True, gc=False):
    """Vertices stand after all that they wait for; edges are pairs of their numbers.

    A vertex is a module call with no other inside, or a single autograd node that no such call made: the addition
    of a residual, the loss. AccumulateGrad nodes are no vertices, but they are counted in `nodes` and `chain`.
    """

    layer: tuple[int, ...] = ()  # row of Trace.layers; -1 outside of every module
    is_call: tuple[bool, ...] = ()
    section: tuple[int, ...] = ()  # grows; between two of them an optimizer stepped, so one waits for all of the other
    before: tuple[int, ...] = ()  # edges: `after` waits for `before`
    after: tuple[int, ...] = ()
    nodes: int = 0  # autograd nodes in the graph
    chain: int = 0  # the most of them that wait for one another


def check_graph(graph: StepGraph, layers: int) -> None:
    """Raises ValueError where columns do not fit together or point at nothing."""
    count = len(graph.layer)
    if not (count == len(graph.is_call) == len(graph.section) and len(graph.before) == len(graph.after)):
        raise ValueError("columns of the graph do not fit together")
    if not all(-1 <= row < layers for row in graph.layer) or list(graph.section) != sorted(graph.section):
        raise ValueError("the graph has impossible vertices")
    if not all(0 <= first < second < count for first, second in zip(graph.before, graph.after, strict=True)):
        raise ValueError("the graph has impossible edges")
    if not 0 <= graph.chain <= graph.nodes < 1 << 61:
        raise ValueError("the graph has impossible counts")
