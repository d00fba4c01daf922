"""Mamba (Gu and Dao 2023), a state space model, in plain torch: the scan is a loop over the places of the text.

At full size mamba-130m's configuration. Where Mamba's own CUDA kernel is not there, this loop is what people run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from longpole.survey.networks.attention import start_small
from longpole.survey.networks.next_token import next_token_loss
from longpole.survey.networks.texts import Crops
from longpole.survey.networks.training import Training, adamw

KERNEL, EXPAND = 4, 2


@dataclass(frozen=True, slots=True)
class Config:
    vocabulary: int
    length: int
    layers: int
    width: int
    state: int
    batch: int


SIZES = {
    "tiny": Config(300, 8, 2, 32, 4, 2),
    "small": Config(4096, 64, 4, 192, 16, 4),
    "full": Config(50_280, 256, 24, 768, 16, 4),
}


class Mixer(nn.Module):
    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        inner, self.rank, self.state = EXPAND * width, math.ceil(width / 16), state
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, KERNEL, padding=KERNEL - 1, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.decay_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner, gate = self.in_proj(x).chunk(2, -1)
        inner = functional.silu(self.conv(inner.transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2)
        steps, write, read = self.x_proj(inner).split((self.rank, self.state, self.state), -1)
        seen = self.scan(inner, functional.softplus(self.dt_proj(steps)), write, read)
        return self.out_proj((seen + inner * self.skip) * functional.silu(gate))

    def scan(self, x: Tensor, dt: Tensor, write: Tensor, read: Tensor) -> Tensor:
        """h[t] = exp(dt A) h[t - 1] + dt B x, y = C h; x and dt are (batch, length, inner)."""
        kept = torch.exp(dt[..., None] * -self.decay_log.exp())
        added = (dt * x)[..., None] * write[:, :, None, :]
        hidden = torch.zeros_like(added[:, 0])
        seen: list[Tensor] = []
        for decay, new, out in zip(kept.unbind(1), added.unbind(1), read.unbind(1), strict=True):
            hidden = decay * hidden + new
            seen.append((hidden @ out[..., None])[..., 0])
        return torch.stack(seen, 1)


class Block(nn.Module):
    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, 1e-5)
        self.mixer = Mixer(width, state)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixer(self.norm(x))


class Mamba(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.Sequential(*(Block(config.width, config.state) for _ in range(config.layers)))
        self.norm = nn.RMSNorm(config.width, 1e-5)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        self.apply(start_small)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.tokens(tokens))))


def mamba(size: str) -> Training:
    config = SIZES[size]
    crops = Crops(config.vocabulary, config.length)
    return Training(Mamba(config), crops, config.batch, next_token_loss, adamw(6e-4), clip=1.0)
