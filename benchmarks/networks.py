"""Trainings of different kinds, each a function that makes one step: what overheads are measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Step = Callable[[], None]


def empty() -> Step:
    """Next to no work: what is left is the cost of a turn itself."""
    return _classify(nn.Linear(4, 10), torch.randn(2, 4))


def mlp() -> Step:
    layers = [nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU()]
    return _classify(nn.Sequential(*layers, nn.Linear(1024, 10)), torch.randn(64, 256))


def conv_net() -> Step:
    def block(channels_in: int, channels_out: int) -> list[nn.Module]:
        conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        return [conv, nn.BatchNorm2d(channels_out), nn.ReLU()]

    layers = [*block(3, 24), *block(24, 24), nn.MaxPool2d(2), *block(24, 48), *block(48, 48), nn.AdaptiveAvgPool2d(4)]
    return _classify(nn.Sequential(*layers, nn.Flatten(), nn.Linear(48 * 16, 10)), torch.randn(16, 3, 32, 32))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, width)
        x = x + self.proj(mixed)
        return x + self.mlp(self.norm2(x))


class _GPT(nn.Module):
    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        self.blocks = nn.ModuleList(_Block(width, 4) for _ in range(layers))
        self.head = nn.Linear(width, 256)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def gpt() -> Step:
    model = _GPT(layers=4, width=128)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(256, (8, 64))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(tokens).view(-1, 256), tokens.roll(-1, 1).view(-1)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


class _Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def many_tiny() -> Step:
    model = nn.Sequential(*(_Tiny() for _ in range(500)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.randn(4, 8)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


def _classify(model: nn.Module, x: torch.Tensor) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    y = torch.randint(10, (len(x),))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


NETWORKS: Mapping[str, Callable[[], Step]] = {
    "empty": empty,
    "mlp": mlp,
    "conv": conv_net,
    "gpt": gpt,
    "tiny500": many_tiny,
}
