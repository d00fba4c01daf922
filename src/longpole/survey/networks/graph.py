"""A graph network (GIN, Xu et al. 2019): each atom of a molecule gathers what its neighbours say."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from longpole.survey.networks.training import Batch, Training, adam

FEATURES = 16
# (atoms, bonds, width, layers, batch)
SIZES = {"tiny": (8, 16, 16, 2, 4), "small": (24, 52, 128, 5, 64), "full": (24, 52, 300, 5, 256)}


class Molecules(Dataset[tuple[Tensor, ...]]):
    """Random graphs: features of each atom, the two ends of each bond in both directions, a number to predict."""

    def __init__(self, atoms: int, bonds: int, count: int = 2048) -> None:
        random = torch.Generator().manual_seed(7)
        self.features = torch.randn(count, atoms, FEATURES, generator=random)
        ends = torch.randint(atoms, (count, 2, bonds // 2), generator=random)
        self.bonds = torch.cat((ends, ends.flip(1)), 2)
        self.targets = self.features.square().mean((1, 2))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return self.features[index], self.bonds[index], self.targets[index]


class Gather(nn.Module):
    """x[i] + sum of x[j] over the neighbours j of i, through a perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.BatchNorm1d(2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        gathered = torch.zeros_like(x).index_add(0, target, x[source])
        return functional.relu(self.norm(self.mlp(x + gathered)))


class GIN(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, width)
        self.layers = nn.ModuleList(Gather(width) for _ in range(layers))
        self.head = nn.Linear(width, 1)

    def forward(self, features: Tensor, bonds: Tensor) -> Tensor:
        """(graphs, atoms, FEATURES) and (graphs, 2, bonds) to a number for each graph."""
        graphs, atoms, _ = features.shape
        first = torch.arange(graphs, device=bonds.device)[:, None, None] * atoms
        source, target = (bonds + first).transpose(0, 1).flatten(1)
        x = self.embed(features.flatten(0, 1))
        for layer in self.layers:
            x = layer(x, source, target)
        return self.head(x.view(graphs, atoms, -1).mean(1))[:, 0]


def squared_error(model: nn.Module, batch: Batch) -> Tensor:
    features, bonds, targets = batch
    return functional.mse_loss(model(features, bonds), targets)


def graph(size: str) -> Training:
    atoms, bonds, width, layers, batch = SIZES[size]
    return Training(GIN(width, layers), Molecules(atoms, bonds), batch, squared_error, adam(1e-3))
