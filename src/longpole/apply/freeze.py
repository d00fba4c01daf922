"""The first layers do not learn: their parameters ask for no gradient, from their first forward pass on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from longpole.apply import notes
from longpole.apply.first_forward import ModuleCalls, layers_within, own_parameters

if TYPE_CHECKING:
    from torch import nn


class FrozenLayers:
    """Freezes layers with parameters of their own as they are entered, until there are `wanted` of them.

    A layer is frozen before it computes for the first time with gradients: no gradient is ever made, and an optimizer
    that already holds its parameters passes over them, weight decay included, as each does where there is no
    gradient. Statistics that normalization keeps still follow the data: that is no learning by gradients.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.done = 0
        self._seen: set[int] = set()
        self._calls = ModuleCalls(self._entered)

    def start(self) -> None:
        self._calls.start()

    def unmet(self) -> str | None:
        """Why this change was not made, once the script has trained; None where it was."""
        if self.done >= self.wanted:
            return None
        return f"only {self.done} layers with parameters were called; {self.wanted} cannot be frozen"

    def _entered(self, module: nn.Module, _args: tuple[Any, ...], _kwargs: dict[str, Any], _outermost: bool) -> None:
        if not torch.is_grad_enabled():
            return
        for layer in layers_within(module):
            parameters = own_parameters(layer)
            if self.done < self.wanted and parameters and id(layer) not in self._seen:
                self._seen.add(id(layer))
                self._freeze(parameters)
        if self.done >= self.wanted:
            self._calls.stop()

    def _freeze(self, parameters: list[nn.Parameter]) -> None:
        self.done += 1
        for parameter in parameters:
            if not parameter.is_leaf:  # torch refuses to change what was computed
                notes.said.append("a frozen layer's parameter is computed from others; it goes on learning")
                continue
            parameter.requires_grad_(False)
            parameter.grad = None


def freeze_layers(count: int) -> FrozenLayers:
    """Freezes the first `count` layers of whatever network the script calls."""
    frozen = FrozenLayers(count)
    frozen.start()
    return frozen
