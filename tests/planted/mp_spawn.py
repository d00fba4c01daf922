"""torch.multiprocessing.spawn of two small trainings; what each prints comes in order, from the parent."""

from __future__ import annotations

import torch
import torch.multiprocessing as mp
import torch.nn as nn

from planted import FEATURES, options, regression

BATCH = 64


def train(rank: int, steps: int, seed: int, results: mp.SimpleQueue) -> None:
    torch.manual_seed(seed + rank)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(FEATURES, 256), nn.ReLU(), nn.Linear(256, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = regression(BATCH, seed + rank)
    losses: list[str] = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item().hex())
    results.put((rank, losses))


def main() -> None:
    args = options(__doc__).parse_args()
    results = mp.get_context("spawn").SimpleQueue()
    mp.spawn(train, args=(args.steps, args.seed, results), nprocs=2)
    for rank, losses in sorted(results.get() for _ in range(2)):
        for step, loss in enumerate(losses):
            print(f"rank {rank} step {step} loss {loss}")


if __name__ == "__main__":
    main()
