"""The layers as the module tree that they are, small parts folded away: plain rows for the terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from longpole.report.figures import known

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from longpole.analysis.study import LayerTime

DEEPEST = 100  # dots in a path; beyond this (no real network) a layer stands at the top
FOLD_BELOW = 0.02  # of the step: a container smaller than this is one closed row


@dataclass(slots=True)
class Node:
    """A layer and what is inside it."""

    path: str
    time: LayerTime
    label: str = ""  # the path, less that of the node round it
    children: list[Node] = field(default_factory=list["Node"])


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One line of the tree. A `folded` row stands for that many layers and has only a sum."""

    depth: int
    label: str
    time: LayerTime | None
    folded: int = 0
    total_ms: float | None = None


def grow(layers: Sequence[LayerTime]) -> list[Node]:
    """The top nodes of the module tree, in the order of `layers`; parents come from dotted paths.

    The outermost module, if listed, has the path "" and holds all others. A path may come twice (a study from
    elsewhere): both are kept, and children go to the first.
    """
    nodes: dict[str, Node] = {}
    tops: list[Node] = []
    for layer in layers:
        node = Node(layer.layer, layer, layer.layer)
        if nodes.setdefault(layer.layer, node) is not node:
            tops.append(node)
    for layer in layers:
        node = nodes[layer.layer]
        parent = _parent(node.path, nodes)
        if node.time is layer:
            node.label = _label(node, parent)
            (tops if parent is None else parent.children).append(node)
    return tops


def _parent(path: str, nodes: dict[str, Node]) -> Node | None:
    """The nearest listed module round `path`."""
    at = path if path.count(".") <= DEEPEST else ""
    while at:
        at = at.rpartition(".")[0]
        if at in nodes:
            return nodes[at]
    return None


def leaves(node: Node) -> int:
    """How many layers without children are under a node, itself included."""
    total, stack = 0, [node]
    while stack:
        here = stack.pop()
        total += not here.children
        stack.extend(here.children)
    return total


def rows(layers: Sequence[LayerTime], top: int = 8) -> list[TreeRow]:
    """Rows of the tree in module order: of each container the `top` largest parts, the rest as one sum.

    A container under 2 % of the step is shown closed; so are, of siblings made alike, all but the largest.
    """
    out: list[TreeRow] = []
    tops = grow(layers)
    alike = _repeats(tops)
    stack: list[Iterator[TreeRow | tuple[Node, int]]] = [iter(_level(tops, 0, max(top, 1)))]
    while stack:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
        elif isinstance(item, TreeRow):
            out.append(item)
        else:
            node, depth = item
            closed = bool(node.children) and (_is_small(node) or id(node) in alike)
            out.append(TreeRow(depth, node.label, node.time, folded=leaves(node) if closed else 0))
            if node.children and not closed:
                alike |= _repeats(node.children)
                stack.append(iter(_level(node.children, depth + 1, max(top, 1))))
    return out


def _level(nodes: Sequence[Node], depth: int, top: int) -> Iterator[TreeRow | tuple[Node, int]]:
    ranked = sorted(range(len(nodes)), key=lambda i: -_total(nodes[i]))
    keep = set(ranked[:top] if len(nodes) > top + 1 else ranked)
    for i, node in enumerate(nodes):
        if i in keep:
            yield node, depth
    rest = [node for i, node in enumerate(nodes) if i not in keep]
    if rest:
        sums = [n.time.total_ms for n in rest if n.time.total_ms is not None]
        label = f"+ {len(rest)} smaller"
        yield TreeRow(depth, label, None, folded=sum(map(leaves, rest)), total_ms=sum(sums) if sums else None)


def _repeats(nodes: Sequence[Node]) -> set[int]:
    """Of siblings made alike (type, names and types of children), `id` of all but the largest."""
    best: dict[tuple[str, ...], Node] = {}
    inner = [(node, _make(node)) for node in nodes if node.children]
    for node, make in inner:
        if make not in best or _total(node) > _total(best[make]):
            best[make] = node
    return {id(node) for node, make in inner if best[make] is not node}


def _make(node: Node) -> tuple[str, ...]:
    return node.time.type, *(f"{child.label}:{child.time.type}" for child in node.children)


def _total(node: Node) -> float:
    value = node.time.total_ms
    return value if value is not None and known(value) else 0.0


def _is_small(node: Node) -> bool:
    share = node.time.share
    return share is not None and known(share) and share < FOLD_BELOW


def _label(node: Node, parent: Node | None) -> str:
    if not node.path:
        return node.time.type or "(whole model)"
    return node.path[len(parent.path) + 1 :] if parent is not None and parent.path else node.path
