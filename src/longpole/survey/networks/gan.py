"""DCGAN (Radford et al. 2016): a generator and a discriminator in turn, each with an optimizer of its own."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from longpole.survey.networks.pictures import Pictures
from longpole.survey.networks.training import Batch, Training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.optim import Optimizer

NOISE, PIXELS = 100, 64
SIZES = {"tiny": (2, 8), "small": (8, 32), "full": (128, 64)}  # (batch, width)


class Generator(nn.Sequential):
    """(batch, NOISE, 1, 1) to a picture."""

    def __init__(self, width: int) -> None:
        layers: list[nn.Module] = []
        widths = [NOISE, 8 * width, 4 * width, 2 * width, width]
        for level, (one, two) in enumerate(pairwise(widths)):
            up = nn.ConvTranspose2d(one, two, 4, 2 if level else 1, 1 if level else 0, bias=False)
            layers += [up, nn.BatchNorm2d(two), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh())


class Discriminator(nn.Sequential):
    """A picture to one number: how real it looks."""

    def __init__(self, width: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
        widths = [width, 2 * width, 4 * width, 8 * width]
        for one, two in pairwise(widths):
            layers += [nn.Conv2d(one, two, 4, 2, 1, bias=False), nn.BatchNorm2d(two), nn.LeakyReLU(0.2, inplace=True)]
        super().__init__(*layers, nn.Conv2d(8 * width, 1, 4, bias=False), nn.Flatten(0))


class GAN(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.generator = Generator(width)
        self.discriminator = Discriminator(width)


def noise(pictures: Tensor) -> Tensor:
    return torch.randn(len(pictures), NOISE, 1, 1, device=pictures.device)


def real_or_not(judged: Tensor, real: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(judged, torch.full_like(judged, real))


def discriminator_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The discriminator's half of a step: one batch of real pictures, one of made ones."""
    assert isinstance(model, GAN)
    made = model.generator(noise(batch[0])).detach()
    return real_or_not(model.discriminator(batch[0]), 1.0) + real_or_not(model.discriminator(made), 0.0)


def turn(model: nn.Module, optimizers: Sequence[Optimizer], batch: Batch) -> None:
    """One step of each: the discriminator learns to tell, then the generator to deceive."""
    assert isinstance(model, GAN)
    for_generator, for_discriminator = optimizers
    for_discriminator.zero_grad()
    discriminator_loss(model, batch).backward()
    for_discriminator.step()
    for_generator.zero_grad()
    real_or_not(model.discriminator(model.generator(noise(batch[0]))), 1.0).backward()
    for_generator.step()


def adams(model: nn.Module) -> Sequence[Optimizer]:
    assert isinstance(model, GAN)
    parts = (model.generator, model.discriminator)
    return [torch.optim.Adam(part.parameters(), 2e-4, betas=(0.5, 0.999)) for part in parts]


def gan(size: str) -> Training:
    batch, width = SIZES[size]
    return Training(GAN(width), Pictures(4 * batch, PIXELS, 10), batch, discriminator_loss, adams, turn=turn)
