"""The serial chain: which layers must wait for which, how long that takes, what could run side by side.

Forward goes up the graph. Backward comes down through input gradients alone: a weight gradient waits for the
gradient of its layer's output, and nothing but the update waits for it. So the chain holds forward and input
gradients, and the last weight gradient only where it ends after them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.study import LayerTime, PhaseTime
    from longpole.trace.graph import StepGraph
    from longpole.trace.trace import Layer

MOST_WAITS = 4000  # vertices of a graph that is told layer by layer
EDGES_A_VERTEX = 10
FORWARD = ("forward", "loss")


class Wait(msgspec.Struct):
    layer: str
    after: list[str]  # layers whose outputs it takes, those left out that one of the others waits for anyway


class SerialChain(msgspec.Struct):
    """One step. `layers` are module calls with no other inside; a layer that is called twice counts twice."""

    layers: int  # the most of them that wait for one another
    of_layers: int
    nodes: int  # the most autograd nodes that wait for one another
    of_nodes: int
    time_ms: float | None = None  # the least that forward and backward take, however much room there is
    work_ms: float | None = None  # what they take one after the other: forward, loss and backward of the step
    parallelism: float | None = None  # work over time: so many layers could be at work at once, on average
    forward_ms: float | None = None  # the part of time_ms in forward
    backward_ms: float | None = None
    unseen_ms: float | None = None  # time of forward and backward in no vertex, taken to be serial
    path: list[str] = []  # the layers on the longest way through forward, by time
    waits: list[Wait] = []  # empty for graphs too large to tell


@dataclass(frozen=True, slots=True)
class Durations:
    """Milliseconds of each vertex."""

    forward: Sequence[float]
    input_grad: Sequence[float]  # backward, less the weights' gradients where these are told apart
    weight_grad: Sequence[float]
    unseen_forward: float = 0.0
    unseen_backward: float = 0.0


def serial_chain(
    graph: StepGraph | None, names: Sequence[Layer], layers: Sequence[LayerTime], phases: Sequence[PhaseTime]
) -> SerialChain | None:
    """None where the step's graph is not known. Without times of layers (empty) the counts alone."""
    if graph is None or not graph.layer:
        return None
    paths = [names[row].path or names[row].type if row >= 0 else "" for row in graph.layer]
    below = _below(graph)
    found = SerialChain(
        layers=round(_longest([float(is_call) for is_call in graph.is_call], graph, below)),
        of_layers=sum(graph.is_call),
        nodes=graph.chain,
        of_nodes=graph.nodes,
        waits=_waits(graph, paths, below),
    )
    if layers:
        _add_times(found, graph, below, paths, durations_of(graph, layers, phases))
    return found


def durations_of(graph: StepGraph, layers: Sequence[LayerTime], phases: Sequence[PhaseTime]) -> Durations:
    """A layer's own time, spread evenly over its vertices; what no layer has, over the vertices outside of any.

    What is left, in layers without a vertex (frozen ones; a container's Python), is unseen.
    """
    forward = sum(phase.ms for phase in phases if phase.phase in FORWARD)
    backward = sum(phase.ms for phase in phases if phase.phase == "backward")
    of_layer: dict[int, tuple[float, float, float]] = {}
    for row, layer in enumerate(layers):
        whole, weight = layer.own_backward_ms or 0.0, layer.own_weight_grad_ms or 0.0
        of_layer[row] = (layer.own_forward_ms or 0.0, max(whole - weight, 0.0), min(weight, whole))
    inside = sum(times[0] for times in of_layer.values()), sum(times[1] + times[2] for times in of_layer.values())
    of_layer[-1] = max(forward - inside[0], 0.0), max(backward - inside[1], 0.0), 0.0
    counts: dict[int, int] = {}
    for row in graph.layer:
        counts[row] = counts.get(row, 0) + 1
    spread = {row: [ms / count for ms in of_layer[row]] for row, count in counts.items()}
    unseen = [times for row, times in of_layer.items() if row not in counts]
    return Durations(
        forward=[spread[row][0] for row in graph.layer],
        input_grad=[spread[row][1] for row in graph.layer],
        weight_grad=[spread[row][2] for row in graph.layer],
        unseen_forward=sum(times[0] for times in unseen),
        unseen_backward=sum(times[1] + times[2] for times in unseen),
    )


def _add_times(
    found: SerialChain, graph: StepGraph, below: list[list[int]], paths: Sequence[str], times: Durations
) -> None:
    unseen = times.unseen_forward + times.unseen_backward
    work = sum(times.forward) + sum(times.input_grad) + sum(times.weight_grad) + unseen
    forward = _longest(times.forward, graph, below) + times.unseen_forward
    backward = _longest_back(times, graph, below) + times.unseen_backward
    found.time_ms, found.work_ms, found.unseen_ms = forward + backward, work, unseen
    found.forward_ms, found.backward_ms = forward, backward
    found.parallelism = work / (forward + backward) if forward + backward > 0 else None
    found.path = _path(times.forward, graph, below, paths)


def _below(graph: StepGraph) -> list[list[int]]:
    """For each vertex those that it waits for, in its own section."""
    found: list[list[int]] = [[] for _ in graph.layer]
    for first, second in zip(graph.before, graph.after, strict=True):
        if graph.section[first] == graph.section[second]:
            found[second].append(first)
    return found


def _ends(weights: Sequence[float], below: Sequence[Sequence[int]]) -> list[float]:
    """When each vertex is done, if each begins as soon as it may."""
    done: list[float] = []
    for vertex, weight in enumerate(weights):
        done.append(weight + max((done[other] for other in below[vertex]), default=0.0))
    return done


def _longest(weights: Sequence[float], graph: StepGraph, below: Sequence[Sequence[int]]) -> float:
    """The longest way up, of each section; sections come one after the other."""
    return sum(_most_by_section(_ends(weights, below), graph))


def _most_by_section(ends: Sequence[float], graph: StepGraph) -> list[float]:
    most: dict[int, float] = {}
    for vertex, end in enumerate(ends):
        most[graph.section[vertex]] = max(most.get(graph.section[vertex], 0.0), end)
    return list(most.values())


def _longest_back(times: Durations, graph: StepGraph, below: Sequence[Sequence[int]]) -> float:
    """The longest way down through input gradients, with the weight gradient that ends last."""
    begin = [0.0] * len(graph.layer)
    ends = [0.0] * len(graph.layer)
    for vertex in range(len(graph.layer) - 1, -1, -1):
        passed_on = begin[vertex] + times.input_grad[vertex]
        ends[vertex] = begin[vertex] + max(times.input_grad[vertex], times.weight_grad[vertex])
        for other in below[vertex]:
            begin[other] = max(begin[other], passed_on)
    return sum(_most_by_section(ends, graph))


def _path(
    weights: Sequence[float], graph: StepGraph, below: Sequence[Sequence[int]], paths: Sequence[str]
) -> list[str]:
    """The layers whose calls are on the longest way up, of the last section."""
    ends = _ends(weights, below)
    last = max(graph.section)
    at = max((v for v in range(len(ends)) if graph.section[v] == last), key=lambda vertex: ends[vertex])
    found: list[str] = []
    while True:
        if graph.is_call[at]:
            found.append(paths[at])
        if not below[at]:
            return found[::-1]
        at = max(below[at], key=lambda vertex: ends[vertex])


def _waits(graph: StepGraph, paths: Sequence[str], below: Sequence[Sequence[int]]) -> list[Wait]:
    """Which layer takes the outputs of which, through whatever stands between; what is told by others left out."""
    if len(graph.layer) > MOST_WAITS or len(graph.before) > EDGES_A_VERTEX * MOST_WAITS:
        return []
    reach: list[int] = []  # a bit for each vertex that this one waits for
    nearest: list[int] = []  # a bit for each call whose output comes here through no other call
    found: dict[str, list[str]] = {}
    for vertex, others in enumerate(below):
        near = reached = 0
        for other in others:
            near |= 1 << other if graph.is_call[other] else nearest[other]
            reached |= reach[other] | 1 << other
        for call in _bits(near):
            near &= ~reach[call]
        nearest.append(near)
        reach.append(reached)
        if graph.is_call[vertex]:
            known = found.setdefault(paths[vertex], [])
            known += [path for path in dict.fromkeys(paths[call] for call in _bits(near)) if path not in known]
    return [Wait(layer, after) for layer, after in found.items()]


def _bits(number: int) -> list[int]:
    found: list[int] = []
    while number:
        lowest = number & -number
        found.append(lowest.bit_length() - 1)
        number ^= lowest
    return found
