"""Recommendation like DLRM (Naumov et al. 2019): embedding tables, products of every pair, two perceptrons.

At full size the configuration for the Criteo Kaggle data of facebookresearch/dlrm, bench/dlrm_s_criteo_kaggle.sh.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from longpole.survey.networks.training import Batch, Training, sgd

DENSE, WIDTH = 13, 16
ROWS = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27, 14992, 5461306, 10, 5652,
    2173, 4, 7046547, 18, 15, 286181, 105, 142572,
)  # fmt: skip
# (rows of a table at most, as --max-ind-range caps them; batch)
SIZES = {"tiny": (100, 8), "small": (100_000, 128), "full": (max(ROWS), 128)}


class Clicks(Dataset[tuple[Tensor, ...]]):
    """Visits: 13 counts, 26 categories of which few are frequent and many rare, and whether there was a click."""

    def __init__(self, rows: list[int], count: int = 8192) -> None:
        random = torch.Generator().manual_seed(7)
        self.dense = torch.rand(count, DENSE, generator=random).neg().log1p().neg()
        shares = torch.rand(count, len(rows), generator=random, dtype=torch.float64) ** 3
        self.categories = (shares * torch.tensor(rows)).long()
        self.clicked = (torch.rand(count, generator=random) < 0.25).float()

    def __len__(self) -> int:
        return len(self.clicked)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return self.dense[index], self.categories[index], self.clicked[index]


def perceptron(*widths: int, last_curve: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*(layers if last_curve else layers[:-1]))


class DLRM(nn.Module):
    def __init__(self, rows: list[int]) -> None:
        super().__init__()
        self.bottom = perceptron(DENSE, 512, 256, 64, WIDTH, last_curve=True)
        self.tables = nn.ModuleList(nn.EmbeddingBag(count, WIDTH, mode="sum", sparse=True) for count in rows)
        vectors = len(rows) + 1
        self.top = perceptron(WIDTH + vectors * (vectors - 1) // 2, 512, 256, 1, last_curve=False)

    def forward(self, dense: Tensor, categories: Tensor) -> Tensor:
        x = self.bottom(dense)
        looked_up = [table(categories[:, at, None]) for at, table in enumerate(self.tables)]
        vectors = torch.stack((x, *looked_up), 1)  # (batch, tables + 1, WIDTH)
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        one, other = torch.tril_indices(vectors.shape[1], vectors.shape[1], -1, device=x.device)
        return self.top(torch.cat((x, products[:, one, other]), 1))[:, 0]


def click_loss(model: nn.Module, batch: Batch) -> Tensor:
    dense, categories, clicked = batch
    return functional.binary_cross_entropy_with_logits(model(dense, categories), clicked)


def dlrm(size: str) -> Training:
    most, batch = SIZES[size]
    rows = [min(count, most) for count in ROWS]
    return Training(DLRM(rows), Clicks(rows), batch, click_loss, sgd(0.1, 0.0, 0.0))
