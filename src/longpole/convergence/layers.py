"""What the first forward pass shows: the layers with parameters in the order in which they compute, and the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from longpole.apply.first_forward import clean_path, layers_within, own_parameters
from longpole.convergence.observed import LayerSeen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn


class FirstForward:
    """Looks at module calls with gradients; see `longpole.apply.first_forward.ModuleCalls`."""

    def __init__(self) -> None:
        self.layers: list[LayerSeen] = []
        self.batch_size: int | None = None  # first dimension of the first tensor given to the network
        self._parameters: dict[int, int] = {}  # numbers of each, by identity
        self._paths: dict[int, str] = {}
        self._seen: set[int] = set()

    @property
    def parameters(self) -> int | None:
        return sum(self._parameters.values()) or None

    def entered(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outermost: bool) -> None:
        if not torch.is_grad_enabled():
            return
        if outermost and id(module) not in self._seen:
            self._outermost(module, (*args, *kwargs.values()))
        for layer in layers_within(module):
            self._layer(layer)

    def _outermost(self, module: nn.Module, values: Iterable[Any]) -> None:
        self._paths |= {id(part): clean_path(path) for path, part in module.named_modules()}
        self._parameters |= {id(p): p.numel() for p in module.parameters()}
        if self.batch_size is None and any(True for _ in module.parameters()):
            self.batch_size = batch_size_of(values)

    def _layer(self, module: nn.Module) -> None:
        if id(module) in self._seen:
            return
        self._seen.add(id(module))
        count = sum(p.numel() for p in own_parameters(module))
        if count:
            path = self._paths.get(id(module)) or type(module).__name__
            self.layers.append(LayerSeen(path, type(module).__name__, count))


def batch_size_of(values: Iterable[Any]) -> int | None:
    """The first dimension of the first tensor in these, looking into dicts and lists."""
    for value in values:
        found: int | None = None
        if isinstance(value, torch.Tensor):
            return int(value.shape[0]) if value.dim() else None
        if isinstance(value, dict):
            found = batch_size_of(value.values())
        elif isinstance(value, (list, tuple)):
            found = batch_size_of(value)
        if found is not None:
            return found
    return None
