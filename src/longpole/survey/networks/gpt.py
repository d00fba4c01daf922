"""GPT-2 small (Radford et al. 2019), and a tiny GPT that writes by bytes, as on a laptop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longpole.survey.networks.attention import PreNormBlock, start_small
from longpole.survey.networks.next_token import next_token_loss
from longpole.survey.networks.texts import BYTES, Crops
from longpole.survey.networks.training import Training, adamw


@dataclass(frozen=True, slots=True)
class Config:
    vocabulary: int
    context: int
    layers: int
    heads: int
    width: int
    batch: int


GPT2 = {
    "tiny": Config(300, 16, 2, 2, 32, 2),
    "small": Config(4096, 128, 4, 4, 256, 4),
    "full": Config(50_257, 1024, 12, 12, 768, 4),
}
BYTE_GPT = {
    "tiny": Config(BYTES, 16, 2, 2, 32, 2),
    "small": Config(BYTES, 128, 4, 4, 128, 16),
    "full": Config(BYTES, 256, 6, 6, 384, 64),
}


class GPT(nn.Module):
    """Token and position, blocks, norm; the head is the token embedding again."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        blocks = (PreNormBlock(config.width, config.heads, causal=True) for _ in range(config.layers))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        self.apply(start_small)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.norm(self.blocks(self.tokens(tokens) + self.positions(places))))


def gpt2(size: str) -> Training:
    return _training(GPT2[size])


def gpt_tiny(size: str) -> Training:
    return _training(BYTE_GPT[size])


def _training(config: Config) -> Training:
    crops = Crops(config.vocabulary, config.context)
    return Training(GPT(config), crops, config.batch, next_token_loss, adamw(6e-4), clip=1.0)
