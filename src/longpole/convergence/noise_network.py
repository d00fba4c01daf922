"""The layers that a watched training has, named as everywhere in longpole, in the order of its forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from longpole.capture.modules import LayerTable
from longpole.convergence.noise_layers import NamedLayer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import torch


def named_layers(
    roots: Iterable[nn.Module], learning: Mapping[int, torch.Tensor], order: Mapping[int, int]
) -> list[NamedLayer]:
    """Modules with parameters of their own among `learning` (by id); `order` says when each was first used.

    A parameter that several modules share belongs to the first of them. Those never seen in use come last.
    """
    table = LayerTable()
    table.find(roots)
    owned: set[int] = set()
    found: list[tuple[int, NamedLayer]] = []
    for module in _modules(roots):
        own = {id(p): p for p in module.parameters(recurse=False) if id(p) in learning and id(p) not in owned}
        if not own or table.row_of(id(module)) < 0:
            continue
        owned |= own.keys()
        path = table.layers[table.row_of(id(module))].path
        is_matrix = not isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and any(p.dim() > 1 for p in own.values())
        layer = NamedLayer(path, type(module).__name__, tuple(own), sum(p.numel() for p in own.values()), is_matrix)
        found.append((min((order[one] for one in own if one in order), default=len(order)), layer))
    table.release()
    return [layer for _, layer in sorted(found, key=lambda one: one[0])]


def _modules(roots: Iterable[nn.Module]) -> Iterator[nn.Module]:
    seen: set[int] = set()
    for root in roots:
        for module in root.modules():
            if id(module) not in seen:
                seen.add(id(module))
                yield module
