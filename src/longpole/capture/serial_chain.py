"""The autograd graph of one step, read before backward frees it, and brought to module calls.

Read on a step whose times are not used (Level.GRADIENTS). Of the graph only numbers are kept: a node's own
sequence number names it, so that two backward calls through the same trunk meet, and nothing is kept alive.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from longpole.capture.gradients import ACCUMULATE
from longpole.capture.internals import current_node
from longpole.trace.graph import StepGraph

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from longpole.capture.modules import LayerTable, ModuleMarks

MOST_NODES = 200_000
LOSSES = "torch.nn.modules.loss"
CREATE_GRAPH = 4  # position of `create_graph` among the arguments of torch.autograd.grad

Key = tuple[str, int]  # what a node is named by: ("node", its sequence number) or ("leaf", its tensor's identity)


@dataclass(slots=True)
class Nodes:
    """Autograd nodes by name: which they wait for, and in which section of the step they were met first."""

    waits: dict[Key, set[Key]] = field(default_factory=dict[Key, set[Key]])
    section: dict[Key, int] = field(default_factory=dict[Key, int])


@dataclass(frozen=True, slots=True)
class CallRange:
    """Nodes with first <= number < last were made inside this module call."""

    layer: int  # row of the layer table
    first: int
    last: int
    is_leaf: bool  # no other module call inside; a loss is none


class GraphWatch:
    """Told of each backward before it runs, and of each optimizer that has stepped. `graph` says what was found."""

    def __init__(self, modules: ModuleMarks) -> None:
        self.failure: str | None = None
        self._modules = modules
        self._nodes = Nodes()
        self._section = 0

    def before_backward(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """With the arguments of torch.autograd.backward or torch.autograd.grad, as `name` says. Never raises."""
        if current_node() is not None or (name == "grad" and _creates_graph(args, kwargs)):
            return  # the graph round it, or the one made now, holds this one
        try:
            self._read(_roots(args, kwargs))
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"

    def stepped(self) -> None:
        """What comes now waits for an update of the weights."""
        self._section += 1

    def graph(self, layers: LayerTable) -> StepGraph | None:
        """None where no backward was seen, or the graph makes no sense."""
        if self.failure or not self._nodes.waits:
            return None
        return condense(self._nodes, _call_ranges(self._modules, layers))

    def _read(self, roots: Iterable[Any]) -> None:
        seen: dict[int, Any] = {}  # held, so that identities stay unique
        waiting = [root for root in roots if root is not None]
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen[id(node)] = node
            below = [edge for edge, _ in node.next_functions if edge is not None]
            key = _key(node)
            self._nodes.waits.setdefault(key, set()).update(map(_key, below))
            self._nodes.section.setdefault(key, self._section)
            waiting += below
            if len(self._nodes.waits) > MOST_NODES:
                raise OverflowError(f"the graph has over {MOST_NODES:,} nodes")


def _creates_graph(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether torch.autograd.grad is asked for gradients that a later backward goes through."""
    return bool(args[CREATE_GRAPH] if len(args) > CREATE_GRAPH else kwargs.get("create_graph"))


def _roots(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    given = args[0] if args else kwargs.get("tensors", kwargs.get("outputs", ()))
    is_one = isinstance(given, torch.Tensor) or hasattr(given, "node")
    found: Sequence[Any] = [given] if is_one else list(given)
    return [root.grad_fn if isinstance(root, torch.Tensor) else root.node for root in found]


def _key(node: Any) -> Key:
    if node.name() == ACCUMULATE:
        return "leaf", id(node.variable)
    return "node", int(node._sequence_nr())


def _call_ranges(modules: ModuleMarks, layers: LayerTable) -> list[CallRange]:
    """Calls in the order of their ends, so that an inner one stands before the one round it."""
    losses = {id(root) for root in modules.roots.values() if type(root).__module__ == LOSSES}
    found: list[CallRange] = []
    began_before = -1
    for module, began, _, first, last in np.array(modules.calls, dtype=np.int64).reshape(-1, 5).tolist():
        # A call that has another inside ends right after the last of those.
        is_leaf = began_before < began and module not in losses
        found.append(CallRange(layers.row_of(module), first, last, is_leaf))
        began_before = began
    return found


def condense(nodes: Nodes, calls: Sequence[CallRange]) -> StepGraph | None:
    """The graph with the nodes of each leaf call as one vertex; None where it has a circle."""
    order = _sorted(nodes.waits, nodes.section)
    if order is None:
        return None
    owner = _owners(order, calls)
    vertex_of = {key: _vertex(key, owner) for key in order if key[0] == "node"}
    waits: dict[Key, set[Key]] = defaultdict(set)
    section: dict[Key, int] = {}
    for key, vertex in vertex_of.items():
        found = {vertex_of[below] for below in nodes.waits[key] if below in vertex_of}
        waits[vertex] |= found - {vertex}
        section[vertex] = min(section.get(vertex, nodes.section[key]), nodes.section[key])
    vertices = _sorted(waits, section)
    if vertices is None:
        return None
    number = {vertex: at for at, vertex in enumerate(vertices)}
    edges = sorted((number[below], number[vertex]) for vertex in vertices for below in waits[vertex])
    return StepGraph(
        layer=tuple(_layer(vertex, owner, calls) for vertex in vertices),
        is_call=tuple(vertex[0] == "call" for vertex in vertices),
        section=tuple(section[vertex] for vertex in vertices),
        before=tuple(first for first, _ in edges),
        after=tuple(second for _, second in edges),
        nodes=len(order),
        chain=_chain(order, nodes),
    )


def _owners(order: Iterable[Key], calls: Sequence[CallRange]) -> dict[Key, int]:
    """The innermost call that made each node; absent where none did."""
    found: dict[Key, int] = {}
    by_number = {key[1]: key for key in order if key[0] == "node"}
    for at, call in enumerate(calls):  # inner calls come first, and what they made stays theirs
        if call.last - call.first > len(by_number):
            numbers: Iterable[int] = [number for number in by_number if call.first <= number < call.last]
        else:
            numbers = range(call.first, call.last)
        for number in numbers:
            if number in by_number:
                found.setdefault(by_number[number], at if call.is_leaf else ~at)
    return found


def _vertex(key: Key, owner: Mapping[Key, int]) -> Key:
    """Nodes of a leaf call are one; others, whose owner is marked by its sign, stand for themselves."""
    at = owner.get(key)
    return ("call", at) if at is not None and at >= 0 else key


def _layer(vertex: Key, owner: Mapping[Key, int], calls: Sequence[CallRange]) -> int:
    if vertex[0] == "call":
        return calls[vertex[1]].layer
    at = owner.get(vertex)
    return calls[~at].layer if at is not None else -1


def _sorted(waits: Mapping[Key, set[Key]], section: Mapping[Key, int]) -> list[Key] | None:
    """Sections one after the other, in each a vertex after all that it waits for; None where there is a circle."""
    left = {key: len(below & waits.keys()) for key, below in waits.items()}
    above: dict[Key, list[Key]] = defaultdict(list)
    for key, below in waits.items():
        for other in below & waits.keys():
            above[other].append(key)
    ready = [key for key, count in left.items() if not count]
    found: list[Key] = []
    while ready:
        key = ready.pop()
        found.append(key)
        for other in above[key]:
            left[other] -= 1
            if not left[other]:
                ready.append(other)
    if len(found) < len(waits):
        return None
    found.sort(key=lambda key: section[key])  # stable
    place = {key: at for at, key in enumerate(found)}
    is_ordered = all(place[below] < place[key] for key in found for below in waits[key] & waits.keys())
    return found if is_ordered else None


def _chain(order: Iterable[Key], nodes: Nodes) -> int:
    """The most nodes that wait for one another; sections wait for each other whole."""
    longest: dict[Key, int] = {}
    of_section: dict[int, int] = defaultdict(int)
    for key in order:
        here = nodes.section[key]
        longest[key] = 1 + max((longest[b] for b in nodes.waits[key] if nodes.section[b] == here), default=0)
        of_section[here] = max(of_section[here], longest[key])
    return sum(of_section.values())
