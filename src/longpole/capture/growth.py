"""Memory that grows by step: what of earlier steps is still alive when the window ends, and who holds it.

Two witnesses. Storages made in a step that was watched, alive steps later, are kept by somebody. And autograd nodes
carry the number of their making, so that a live tensor tells from which steps its graph is: a list of losses reaches
back to each of them.
"""

from __future__ import annotations

import gc
import os
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from longpole.capture import internals
from longpole.capture.gradients import ACCUMULATE
from longpole.capture.holders import Named, is_attributes, is_container, lines_of, name_of, user_frames
from longpole.capture.interpreter import frame_at
from longpole.capture.storages import tensors_in
from longpole.trace.memory import Grown, Owner

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from longpole.capture.storages import StorageLives

LEAST_STEPS = 3  # from which something must be kept: two may be the step and the one before
OLD = 3  # steps after which what is still there is kept on purpose: prefetched batches are used by then
MOST_NODES = 50_000
PILING = (Owner.NOBODY, Owner.RECOMPUTED, Owner.OPTIMIZER)
MOST_HOLDERS = 5
LEAST_BYTES = 1024  # a step, of what has no graph: a list of detached losses is nobody's trouble


@dataclass
class Followed:
    """Storages of one watched step that are still watched; rows from `first_row` on were made in it."""

    step: int
    lives: StorageLives
    first_row: int
    rows: int
    layers: list[int]


@dataclass
class _Suspect:
    tensor: torch.Tensor
    rows: set[tuple[int, int]]  # which of Followed, row
    steps: set[int]
    nodes: int


@dataclass
class _Kept:
    """What one holder keeps."""

    holder: Any
    steps: set[int] = field(default_factory=set[int])
    rows: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])  # which of Followed, row
    tensors: int = 0
    nodes: int = 0


def find_growth(followed: Sequence[Followed], first_sequences: Sequence[int], last_step: int) -> list[Grown]:
    """Holders that keep something of at least three earlier steps. `first_sequences` are those of each step."""
    graphs = _Graphs(first_sequences)
    alive = _plain_tensors()
    suspects: list[_Suspect] = []
    for tensor in alive:
        rows = _rows(tensor, followed, last_step)
        steps, nodes = graphs.steps_of(tensor) if tensor.grad_fn is not None else (set[int](), 0)
        old = {step for step in steps if step < last_step}
        if rows or len(old) >= LEAST_STEPS or (old and min(old) <= last_step - OLD):
            suspects.append(_Suspect(tensor, rows, old | {followed[place].step for place, _ in rows}, nodes))
    alive.clear()
    kept = _by_holder(suspects)
    growing = sorted((entry for entry in kept if _grows(entry, followed, last_step)), key=lambda e: -e.tensors)
    frames = user_frames(frame_at(1))
    hidden = [kept, suspects]
    grown = [_grown(entry, followed, frames, hidden) for entry in growing[:MOST_HOLDERS]]
    grown = [found for found in grown if found.graph_nodes or found.bytes >= LEAST_BYTES * found.followed]
    return sorted(grown, key=lambda found: -(found.bytes + found.graph_nodes))


def _by_holder(suspects: list[_Suspect]) -> list[_Kept]:
    """Suspects put together by what holds them; the heap is searched once, since that takes long."""
    tensors = [suspect.tensor for suspect in suspects]
    wanted, holders = set(map(id, tensors)), dict[int, Any]()
    call = object()  # Python 3.13 finds the arguments of this very call among the referrers
    for found in gc.get_referrers(call, *tensors) if tensors else ():
        is_call = isinstance(found, tuple) and bool(found) and found[0] is call
        if found is not tensors and not is_call and is_container(found) and not is_attributes(found):
            holders.update({id(inside): found for inside in gc.get_referents(found) if id(inside) in wanted})
    kept: dict[int, _Kept] = {}
    for suspect in suspects:
        holder = holders.get(id(suspect.tensor), suspect.tensor)
        entry = kept.setdefault(id(holder), _Kept(holder))
        entry.steps |= suspect.steps
        entry.rows |= suspect.rows
        entry.tensors += 1
        entry.nodes += suspect.nodes
    return list(kept.values())


def _plain_tensors() -> list[torch.Tensor]:
    sorts: dict[type, bool] = {}
    found: list[torch.Tensor] = []
    for thing in gc.get_objects():
        kind = type(thing)
        is_one = sorts.get(kind)
        if is_one is None:
            is_one = sorts[kind] = torch.Tensor in kind.__mro__ and torch.nn.Parameter not in kind.__mro__
        if is_one:
            found.append(thing)
    return found


def _rows(tensor: torch.Tensor, followed: Sequence[Followed], last_step: int) -> set[tuple[int, int]]:
    """Its storage among those of watched steps, unless it is a gradient or too young to tell.

    An optimizer's state made anew in a step in mid-training is gone steps later, unless it piles up.
    """
    found: set[tuple[int, int]] = set()
    for place, watch in enumerate(followed):
        row = watch.lives.row(tensor)
        is_ours = watch.first_row <= row < watch.rows and watch.lives.owner[row] in PILING
        if is_ours and last_step - watch.step >= OLD:
            found.add((place, row))
    return found


def _grows(entry: _Kept, followed: Sequence[Followed], last_step: int) -> bool:
    if len(entry.steps) >= LEAST_STEPS:
        return True
    if not entry.rows:
        return False
    watched = {place for place, watch in enumerate(followed) if last_step - watch.step >= OLD}
    seen = {place for place, _ in entry.rows}
    if len(watched) > 1:
        return seen == watched and not isinstance(entry.holder, torch.Tensor)
    # One step was watched: the holder must have as many tensors as it would have taken since.
    since = last_step - followed[next(iter(seen))].step
    inside = entry.holder.values() if isinstance(entry.holder, dict) else entry.holder
    is_container = not isinstance(entry.holder, (torch.Tensor, tuple))
    return is_container and sum(1 for _ in tensors_in(list(inside))) >= max(LEAST_STEPS, since)


def _grown(entry: _Kept, followed: Sequence[Followed], frames: list[FrameType], hidden: list[Any]) -> Grown:
    named = name_of(entry.holder, frames, [*hidden, vars(entry)])
    layer, op = _maker(entry, followed)
    where, line = _line(named, frames)
    kind = "tensor" if isinstance(entry.holder, torch.Tensor) else type(entry.holder).__name__
    inside = [] if isinstance(entry.holder, torch.Tensor) else entry.holder
    inside = list(inside.values()) if isinstance(inside, dict) else list(inside)
    return Grown(
        holder=named.text.replace("Tensor", "tensor") if named is not None else f"a {kind}",
        where=where,
        line=line,
        layer=layer,
        op=op,
        bytes=sum(followed[place].lives.bytes[row] for place, row in entry.rows),
        followed=len({place for place, _ in entry.rows}),
        tensors=max(entry.tensors, sum(1 for _ in tensors_in(inside))),
        graph_nodes=entry.nodes,
        steps=len(entry.steps),
    )


def _maker(entry: _Kept, followed: Sequence[Followed]) -> tuple[int, str]:
    if not entry.rows:
        return -1, ""
    place, row = max(entry.rows, key=lambda found: followed[found[0]].lives.bytes[found[1]])
    layers = followed[place].layers
    return (layers[row] if row < len(layers) else -1), followed[place].lives.op[row].removeprefix("aten::")


def _line(named: Named | None, frames: list[FrameType]) -> tuple[str, str]:
    if named is None:
        return "", ""
    for file, place in lines_of(named, frames):
        return f"{os.path.basename(file)}:{place.line}", place.text[:200]
    return "", ""


class _Graphs:
    """From which steps the nodes are that a tensor keeps alive; each node is walked once for all tensors."""

    def __init__(self, first_sequences: Sequence[int]) -> None:
        self._starts = list(first_sequences)
        self._seen: set[Any] = set()

    def steps_of(self, tensor: torch.Tensor) -> tuple[set[int], int]:
        waiting: list[Any] = [tensor.grad_fn]
        steps: set[int] = set()
        count = 0
        while waiting and len(self._seen) < MOST_NODES:
            node = waiting.pop()
            if node in self._seen or internals.name_of(node) == ACCUMULATE:
                continue
            self._seen.add(node)
            count += 1
            steps.add(bisect_right(self._starts, internals.sequence_of(node)) - 1)
            waiting += [edge for edge, _ in node.next_functions if edge is not None]
        return steps, count
