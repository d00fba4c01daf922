"""A diffusion model (DDPM, Ho et al. 2020): a U-Net with time and attention says which noise was added.

At full size the network for CIFAR-10: 128 channels, multipliers 1 2 2 2, attention at 16 x 16, 35.7 M parameters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from longpole.survey.networks.pictures import Pictures
from longpole.survey.networks.training import Batch, Training, adam

PIXELS, STEPS, GROUPS = 32, 1000, 32
MULTIPLIERS = (1, 2, 2, 2)
DEPTH = 2  # residual blocks of a level
ATTENDED = 1  # the level with attention: 16 x 16
SIZES = {"tiny": (1, 32), "small": (2, 32), "full": (128, 128)}  # (batch, channels)


def norm_act(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.GroupNorm(GROUPS, channels, 1e-6), nn.SiLU())


class Residual(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, time_width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(norm_act(channels_in), nn.Conv2d(channels_in, channels_out, 3, padding=1))
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(time_width, channels_out))
        drop, conv = nn.Dropout(0.1), nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.second = nn.Sequential(norm_act(channels_out), drop, conv)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        inner = self.first(x) + self.time(time)[:, :, None, None]
        return self.shortcut(x) + self.second(inner)


class PixelAttention(nn.Module):
    """One head over all pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, 1e-6)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)[:, None]
        q, k, v = parts.chunk(3, -1)
        mixed = functional.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.proj(mixed.transpose(1, 2).reshape(x.shape))


class Level(nn.Module):
    """One residual block, with attention where the level has it."""

    def __init__(self, channels_in: int, channels_out: int, time_width: int, *, attends: bool) -> None:
        super().__init__()
        self.residual = Residual(channels_in, channels_out, time_width)
        self.attention = PixelAttention(channels_out) if attends else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.attention(self.residual(x, time))


class DiffusionUNet(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, time_width = channels, 4 * channels
        self.time = nn.Sequential(nn.Linear(channels, time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.down, self.smaller = nn.ModuleList(), nn.ModuleList()
        kept, width, last = [channels], channels, len(MULTIPLIERS) - 1
        for level, multiplier in enumerate(MULTIPLIERS):
            for _ in range(DEPTH):
                self.down.append(Level(width, channels * multiplier, time_width, attends=level == ATTENDED))
                width = channels * multiplier
                kept.append(width)
            if level < last:
                self.smaller.append(nn.Conv2d(width, width, 3, 2, 1))
                kept.append(width)
        self.middle = nn.ModuleList(Level(width, width, time_width, attends=first) for first in (True, False))
        self.up, self.larger = nn.ModuleList(), nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(MULTIPLIERS))):
            for _ in range(DEPTH + 1):
                wide = width + kept.pop()
                self.up.append(Level(wide, channels * multiplier, time_width, attends=level == ATTENDED))
                width = channels * multiplier
            if level:
                self.larger.append(nn.Conv2d(width, width, 3, padding=1))
        self.head = nn.Sequential(norm_act(width), nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, x: Tensor, when: Tensor) -> Tensor:
        time = self.time(waves(when, self.channels))
        x = self.stem(x)
        kept = [x]
        for at, block in enumerate(self.down):
            x = block(x, time)
            kept.append(x)
            if at % DEPTH == DEPTH - 1 and at // DEPTH < len(self.smaller):
                x = self.smaller[at // DEPTH](x)
                kept.append(x)
        for block in self.middle:
            x = block(x, time)
        for at, block in enumerate(self.up):
            x = block(torch.cat((x, kept.pop()), 1), time)
            if at % (DEPTH + 1) == DEPTH and at // (DEPTH + 1) < len(self.larger):
                x = self.larger[at // (DEPTH + 1)](functional.interpolate(x, scale_factor=2.0))
        return self.head(x)


def waves(when: Tensor, width: int) -> Tensor:
    """Sines and cosines of each time: (batch,) to (batch, width)."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=when.device) / (width // 2 - 1))
    angles = when[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), 1)


def noise_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of the noise found, at a random time for each picture."""
    pictures = batch[0]
    when = torch.randint(STEPS, (len(pictures),), device=pictures.device)
    kept = torch.cos(math.pi / 2 * when / STEPS)[:, None, None, None]
    noise = torch.randn_like(pictures)
    return functional.mse_loss(model(kept * pictures + (1 - kept**2).sqrt() * noise, when.float()), noise)


def diffusion(size: str) -> Training:
    batch, channels = SIZES[size]
    pictures = Pictures(8 * batch, PIXELS, 10)
    return Training(DiffusionUNet(channels), pictures, batch, noise_loss, adam(2e-4), clip=1.0)
