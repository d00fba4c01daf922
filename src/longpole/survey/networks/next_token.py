"""Loss of networks that say which token comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor, nn

    from longpole.survey.networks.training import Batch


def next_token_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of (batch, length, vocabulary) against (batch, length)."""
    tokens, targets = batch
    return functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
