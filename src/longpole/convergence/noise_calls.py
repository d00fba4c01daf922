"""Calls that a script made: of its network, and of torch's loss functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

# in torch.nn.functional: functions of (input, target, ...) whose result scripts call backward on
LOSSES = (
    *("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"),
    *("binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div", "multi_margin_loss", "gaussian_nll_loss"),
)


@dataclass(frozen=True, slots=True)
class Batch:
    """What the outermost module was called with: examples, and the leading sizes of its first tensor."""

    examples: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """The outermost module and what it was called with."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    batch: Batch | None
    outputs: tuple[torch.Tensor, ...]  # detached
    autocast: bool


@dataclass(frozen=True, slots=True, eq=False)
class LossCall:
    """One call of a loss function, and what it returned."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: torch.Tensor

    @property
    def input(self) -> Any:
        return self.args[0] if self.args else self.kwargs.get("input")


def batch_of(values: Iterable[Any]) -> Batch | None:
    """The first tensor with a dimension, in whatever the network was called with."""
    for value in values:
        if isinstance(value, torch.Tensor):
            if value.dim():
                return Batch(int(value.shape[0]), tuple(value.shape))
        elif isinstance(value, (list, tuple, dict)):
            found = batch_of(value.values() if isinstance(value, dict) else value)
            if found is not None:
                return found
    return None
