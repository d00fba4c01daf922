"""Vision transformers (Dosovitskiy et al. 2021): ViT-B/16, and the small ViT-Ti/16 of Touvron et al. 2021."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longpole.survey.networks.attention import PreNormBlock
from longpole.survey.networks.classify import cross_entropy
from longpole.survey.networks.pictures import Pictures
from longpole.survey.networks.training import Training, adamw

CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Config:
    pixels: int
    patch: int
    layers: int
    width: int
    heads: int
    batch: int


B16 = {
    "tiny": Config(32, 16, 2, 96, 2, 2),
    "small": Config(112, 16, 4, 384, 6, 8),
    "full": Config(224, 16, 12, 768, 12, 32),
}
TI16 = {
    "tiny": Config(32, 16, 2, 48, 3, 2),
    "small": Config(112, 16, 12, 192, 3, 8),
    "full": Config(224, 16, 12, 192, 3, 64),
}


class ViT(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        places = (config.pixels // config.patch) ** 2 + 1
        self.patches = nn.Conv2d(3, config.width, config.patch, config.patch)
        self.token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, places, config.width))
        blocks = (PreNormBlock(config.width, config.heads, causal=False, epsilon=1e-6) for _ in range(config.layers))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(config.width, 1e-6)
        self.head = nn.Linear(config.width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.token.expand(len(x), -1, -1), patches), 1) + self.positions
        return self.head(self.norm(self.blocks(tokens))[:, 0])


def vit_b16(size: str) -> Training:
    return _training(B16[size])


def vit_ti16(size: str) -> Training:
    return _training(TI16[size])


def _training(config: Config) -> Training:
    pictures = Pictures(4 * config.batch, config.pixels, CLASSES)
    return Training(ViT(config), pictures, config.batch, cross_entropy, adamw(1e-3, 0.05), clip=1.0)
