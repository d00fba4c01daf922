"""BERT-base (Devlin et al. 2019): masked words, and whether one sentence follows the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from longpole.survey.networks.attention import Perceptron, SelfAttention, start_small
from longpole.survey.networks.texts import tokens
from longpole.survey.networks.training import Batch, Training, adamw

MASKED = 0.15  # of the tokens
MASK = 0  # the token that stands for a hidden one
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Config:
    vocabulary: int
    context: int
    length: int
    layers: int
    heads: int
    width: int
    batch: int


SIZES = {
    "tiny": Config(300, 32, 16, 2, 2, 32, 2),
    "small": Config(4096, 512, 128, 4, 4, 256, 4),
    "full": Config(30_522, 512, 512, 12, 12, 768, 8),
}


class Pairs(Dataset[tuple[Tensor, ...]]):
    """Two stretches of text, the second following the first in half of the items; 15 % of the tokens hidden.

    An item: tokens, which stretch each is of, hidden tokens (others IGNORED), whether the second follows.
    """

    def __init__(self, vocabulary: int, length: int, count: int = 4096) -> None:
        self.tokens = tokens(vocabulary)
        self.length, self.count = length, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        half = self.length // 2
        first, other = torch.randint(len(self.tokens) - self.length, (2,)).tolist()
        follows = torch.randint(2, ())
        second = first + half if follows else other
        text = torch.cat((self.tokens[first : first + half], self.tokens[second : second + half]))
        hidden = torch.rand(len(text)) < MASKED
        stretch = (torch.arange(len(text)) >= half).long()
        return text.masked_fill(hidden, MASK), stretch, text.masked_fill(~hidden, IGNORED), follows


class Block(nn.Module):
    """Attend, add, normalize; perceptron, add, normalize."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = SelfAttention(width, heads, causal=False)
        self.norm1 = nn.LayerNorm(width, 1e-12)
        self.mlp = Perceptron(width, 4 * width)
        self.norm2 = nn.LayerNorm(width, 1e-12)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.drop(self.attn(x)))
        return self.norm2(x + self.drop(self.mlp(x)))


class Body(nn.Module):
    """What is meant by BERT-base's 109,482,240 parameters: embeddings, blocks, pooler."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.tokens = nn.Embedding(config.vocabulary, width)
        self.positions = nn.Embedding(config.context, width)
        self.stretches = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        self.drop = nn.Dropout(0.1)
        self.blocks = nn.Sequential(*(Block(width, config.heads) for _ in range(config.layers)))
        self.pooler = nn.Linear(width, width)

    def forward(self, text: Tensor, stretch: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(text.shape[1], device=text.device)
        x = self.tokens(text) + self.positions(places) + self.stretches(stretch)
        x = self.blocks(self.drop(self.norm(x)))
        return x, torch.tanh(self.pooler(x[:, 0]))


class BERT(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.bert = Body(config)
        self.transform = nn.Sequential(
            nn.Linear(config.width, config.width), nn.GELU(), nn.LayerNorm(config.width, 1e-12)
        )
        self.words = nn.Linear(config.width, config.vocabulary)
        self.follows = nn.Linear(config.width, 2)
        self.words.weight = self.bert.tokens.weight
        self.apply(start_small)

    def forward(self, text: Tensor, stretch: Tensor) -> tuple[Tensor, Tensor]:
        x, pooled = self.bert(text, stretch)
        return self.words(self.transform(x)), self.follows(pooled)


def pretraining(model: nn.Module, batch: Batch) -> Tensor:
    text, stretch, hidden, follows = batch
    words, following = model(text, stretch)
    found = functional.cross_entropy(words.flatten(0, 1), hidden.flatten(), ignore_index=IGNORED)
    return found + functional.cross_entropy(following, follows)


def bert_base(size: str) -> Training:
    config = SIZES[size]
    model = BERT(config)
    data = Pairs(config.vocabulary, config.length)
    return Training(model, data, config.batch, pretraining, adamw(1e-4, 0.01), clip=1.0, counted=model.bert)
