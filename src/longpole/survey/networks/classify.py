"""Loss of networks that say which class a picture is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor, nn

    from longpole.survey.networks.training import Batch


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    pictures, labels = batch
    return functional.cross_entropy(model(pictures), labels)
