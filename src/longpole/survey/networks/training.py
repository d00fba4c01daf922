"""What a training script has before its loop begins: network, data, loss, optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.utils.data import Dataset

Batch: TypeAlias = "Sequence[Tensor]"


@dataclass(frozen=True, slots=True)
class Training:
    """One network with everything that a step needs. Nothing is drawn or allocated but the model and the data."""

    model: nn.Module
    data: Dataset[tuple[Tensor, ...]]
    batch_size: int
    loss: Callable[[nn.Module, Batch], Tensor]  # of one batch, a scalar
    optimizers: Callable[[nn.Module], Sequence[Optimizer]]
    clip: float | None = None  # norm that gradients are clipped to
    turn: Callable[[nn.Module, Sequence[Optimizer], Batch], None] | None = None  # a step that is no ordinary one
    counted: nn.Module | None = None  # the part of the model that published parameters count, if not all of it

    @property
    def parameters(self) -> int:
        """Parameters as published figures count them: each tensor once."""
        return sum(parameter.numel() for parameter in (self.counted or self.model).parameters())


def sgd(learning_rate: float, momentum: float = 0.9, decay: float = 1e-4) -> Callable[[nn.Module], Sequence[Optimizer]]:
    return lambda model: [torch.optim.SGD(model.parameters(), learning_rate, momentum, weight_decay=decay)]


def adam(learning_rate: float) -> Callable[[nn.Module], Sequence[Optimizer]]:
    return lambda model: [torch.optim.Adam(model.parameters(), learning_rate)]


def adamw(learning_rate: float, decay: float = 0.1) -> Callable[[nn.Module], Sequence[Optimizer]]:
    return lambda model: [torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=decay)]
