"""Tensors that Python knows of at one moment: parameters with their gradients, optimizer state, and all others."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import torch

from longpole.capture.storages import tensors_in

if TYPE_CHECKING:
    from collections.abc import Iterable

PARAMETER, TENSOR, MODULE, OPTIMIZER = 1, 2, 3, 4


def _sort(kind: type) -> int:
    """Asked once a class: the heap has a million objects of a few thousand classes."""
    sorts = ((torch.nn.Parameter, PARAMETER), (torch.Tensor, TENSOR), (torch.nn.Module, MODULE))
    return next((sort for base, sort in (*sorts, (torch.optim.Optimizer, OPTIMIZER)) if base in kind.__mro__), 0)


class Census:
    """Tensors that Python knows of. Filled by `look`, and emptied again: it must keep nothing alive."""

    def __init__(self) -> None:
        self.parameters: list[torch.Tensor] = []
        self.gradients: list[torch.Tensor] = []
        self.state: list[torch.Tensor] = []
        self.others: list[torch.Tensor] = []

    def look(self, weights: Iterable[torch.Tensor]) -> None:
        self.parameters = list(weights)
        sorts: dict[type, int] = {}
        for found in gc.get_objects():
            sort = sorts.get(type(found))
            if sort is None:
                sort = sorts[type(found)] = _sort(type(found))
            if sort:
                self._sorted(found, sort)
        self.gradients = [p.grad for p in self.parameters if p.is_leaf and p.grad is not None]

    def _sorted(self, found: Any, sort: int) -> None:
        if sort == PARAMETER:
            self.parameters.append(found)
        elif sort == TENSOR:
            self.others.append(found)
        elif sort == MODULE:
            buffers = vars(found).get("_buffers", {})
            self.parameters += [buffer for buffer in buffers.values() if isinstance(buffer, torch.Tensor)]
        else:
            self._optimizer(found)

    def _optimizer(self, optimizer: Any) -> None:
        state = vars(optimizer).get("state", {})
        self.state += [
            t for kept in list(state.values()) if isinstance(kept, dict) for t in tensors_in([*kept.values()])
        ]
        groups = vars(optimizer).get("param_groups", [])
        self.parameters += [p for group in groups for p in group["params"] if isinstance(p, torch.Tensor)]

    def clear(self) -> None:
        self.__init__()
