"""Language models of Llama's kind: RMS normalization, rotary positions, grouped keys, gated perceptron.

At full size SmolLM-135M's configuration; the mixture of experts has eight perceptrons where the other has one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from longpole.survey.networks.attention import start_small
from longpole.survey.networks.next_token import next_token_loss
from longpole.survey.networks.texts import Crops
from longpole.survey.networks.training import Training, adamw

TURNS = 10_000.0  # base of the rotary frequencies


@dataclass(frozen=True, slots=True)
class Config:
    vocabulary: int
    length: int
    layers: int
    width: int
    hidden: int
    heads: int
    key_heads: int
    batch: int
    experts: int = 0  # 0: one perceptron that every token goes through
    used: int = 2  # experts that a token is sent to


LLAMA = {
    "tiny": Config(300, 16, 2, 32, 64, 4, 2, 2),
    "small": Config(4096, 128, 4, 256, 688, 4, 2, 4),
    "full": Config(49_152, 1024, 30, 576, 1536, 9, 3, 4),
}
MIXTURE = {
    "tiny": Config(300, 16, 2, 32, 64, 4, 2, 2, experts=4),
    "small": Config(4096, 128, 3, 256, 512, 4, 2, 4, experts=8),
    "full": Config(32_000, 1024, 12, 768, 2048, 12, 4, 4, experts=8),
}


def rotary(length: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each place's angles: (length, width) both."""
    frequencies = TURNS ** -(torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(length, device=device)[:, None] * frequencies
    doubled = torch.cat((angles, angles), -1)
    return doubled.cos(), doubled.sin()


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    return x * cosine + torch.cat((-right, left), -1) * sine


class Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.each = config.width // config.heads
        self.repeats = config.heads // config.key_heads
        self.q = nn.Linear(config.width, config.heads * self.each, bias=False)
        self.k = nn.Linear(config.width, config.key_heads * self.each, bias=False)
        self.v = nn.Linear(config.width, config.key_heads * self.each, bias=False)
        self.o = nn.Linear(config.heads * self.each, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (part(x).view(batch, length, -1, self.each).transpose(1, 2) for part in (self.q, self.k, self.v))
        angles = rotary(length, self.each, x.device)
        q, k = turned(q, *angles), turned(k, *angles)
        k, v = k.repeat_interleave(self.repeats, 1), v.repeat_interleave(self.repeats, 1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(mixed.transpose(1, 2).reshape(batch, length, -1))


class Gated(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """Each token goes through the experts that the router likes best, weighted by how much it likes them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.used = config.used
        self.router = nn.Linear(config.width, config.experts, bias=False)
        self.experts = nn.ModuleList(Gated(config.width, config.hidden) for _ in range(config.experts))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        weights, chosen = functional.softmax(self.router(flat), -1).topk(self.used, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            rows, places = torch.where(chosen == number)
            out = out.index_add(0, rows, expert(flat[rows]) * weights[rows, places, None])
        return out.view_as(x)


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(config.width, 1e-5)
        self.attn = Attention(config)
        self.norm2 = nn.RMSNorm(config.width, 1e-5)
        self.mlp = Experts(config) if config.experts else Gated(config.width, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Llama(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.norm = nn.RMSNorm(config.width, 1e-5)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        self.apply(start_small)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.tokens(tokens))))


def llama(size: str) -> Training:
    return _training(LLAMA[size])


def mixture(size: str) -> Training:
    return _training(MIXTURE[size])


def _training(config: Config) -> Training:
    crops = Crops(config.vocabulary, config.length)
    return Training(Llama(config), crops, config.batch, next_token_loss, adamw(6e-4), clip=1.0)
