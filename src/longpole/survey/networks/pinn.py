"""A network that learns a law of physics (Raissi et al. 2019): Burgers' equation, by derivatives of derivatives.

u_t + u u_x = nu u_xx with u(0, x) = -sin(pi x) and u(t, -1) = u(t, 1) = 0; nine layers, 20 wide, 3,021 parameters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from longpole.survey.networks.training import Batch, Training, adam

VISCOSITY = 0.01 / math.pi
HIDDEN, WIDTH = 8, 20
BATCH = {"tiny": 32, "small": 2000, "full": 10_000}


class Places(Dataset[tuple[Tensor, ...]]):
    """Places in time and space where the law must hold, and places on the border where u is known."""

    def __init__(self, count: int) -> None:
        random = torch.Generator().manual_seed(7)
        self.inside = torch.rand(count, 2, generator=random) * torch.tensor([1.0, 2.0]) - torch.tensor([0.0, 1.0])
        start = torch.rand(count, generator=random) < 0.5
        sides = torch.randint(2, (count,), generator=random) * 2.0 - 1
        when = torch.where(start, 0.0, self.inside[:, 0])
        where = torch.where(start, self.inside[:, 1], sides)
        self.border = torch.stack((when, where), 1)
        self.known = torch.where(start, -torch.sin(math.pi * where), 0.0)

    def __len__(self) -> int:
        return len(self.known)

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, ...]]:
        """A whole batch at once: thousands of points are too many to fetch one by one."""
        return list(zip(self.inside[indices], self.border[indices], self.known[indices], strict=True))

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return self.inside[index], self.border[index], self.known[index]


class PINN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(2, WIDTH), nn.Tanh()]
        for _ in range(HIDDEN - 1):
            layers += [nn.Linear(WIDTH, WIDTH), nn.Tanh()]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTH, 1))

    def forward(self, when: Tensor, where: Tensor) -> Tensor:
        """(places,) each to u at them."""
        return self.layers(torch.stack((when, where), 1))[:, 0]


def slope(value: Tensor, by: Tensor) -> Tensor:
    return torch.autograd.grad(value.sum(), by, create_graph=True)[0]


def law_and_border(model: nn.Module, batch: Batch) -> Tensor:
    inside, border, known = batch
    when, where = (part.contiguous().requires_grad_() for part in inside.unbind(1))
    u = model(when, where)
    u_x = slope(u, where)
    law = slope(u, when) + u * u_x - VISCOSITY * slope(u_x, where)
    return law.square().mean() + (model(*border.unbind(1)) - known).square().mean()


def pinn(size: str) -> Training:
    batch = BATCH[size]
    return Training(PINN(), Places(4 * batch), batch, law_and_border, adam(1e-3))
