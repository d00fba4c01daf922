"""The training loop; reads a file by a path relative to its own."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn as nn

from planted import FEATURES, Delay, options, print_losses, regression

from .data import get_batch

WIDTH = int((Path(__file__).parent / "width.txt").read_text())


def main() -> None:
    args = options(__doc__).parse_args()
    torch.manual_seed(args.seed)
    model = nn.Sequential(
        nn.Linear(FEATURES, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    all_x, all_y = regression(4096, args.seed)
    delay = Delay("data", args.delay_ms, args.busy)
    losses: list[torch.Tensor] = []
    for _ in range(args.steps):
        x, y = get_batch(all_x, all_y, delay)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    print_losses(losses)
