"""ConvNeXt-T (Liu et al. 2022): depthwise 7 x 7 convolutions, channels last inside a block, no batch normalization."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from longpole.survey.networks.classify import cross_entropy
from longpole.survey.networks.pictures import Pictures
from longpole.survey.networks.training import Training, adamw

# (pixels, batch, blocks of each stage, channels of each stage)
SIZES = {
    "tiny": (32, 2, (1, 1, 1, 1), (24, 48, 96, 192)),
    "small": (64, 8, (3, 3, 9, 3), (48, 96, 192, 384)),
    "full": (224, 32, (3, 3, 9, 3), (96, 192, 384, 768)),
}
CLASSES = 1000


class ChannelNorm(nn.Module):
    """Layer normalization over the channels of (batch, channels, height, width)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)
        normal = functional.layer_norm(last, self.weight.shape, self.weight, self.bias, 1e-6)
        return normal.permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, 1e-6)
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.fc2(self.act(self.fc1(inner)))).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self, depths: tuple[int, ...], channels: tuple[int, ...]) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, channels[0], 4, 4), ChannelNorm(channels[0]))
        between = [nn.Sequential(ChannelNorm(one), nn.Conv2d(one, two, 2, 2)) for one, two in pairwise(channels)]
        stages = [
            nn.Sequential(*(Block(width) for _ in range(depth))) for depth, width in zip(depths, channels, strict=True)
        ]
        self.downsample = nn.ModuleList([stem, *between])
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(channels[-1], 1e-6)
        self.head = nn.Linear(channels[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for smaller, stage in zip(self.downsample, self.stages, strict=True):
            x = stage(smaller(x))
        return self.head(self.norm(x.mean((2, 3))))


def convnext_t(size: str) -> Training:
    pixels, batch, depths, channels = SIZES[size]
    return Training(
        ConvNeXt(depths, channels), Pictures(4 * batch, pixels, CLASSES), batch, cross_entropy, adamw(1e-3, 0.05)
    )
