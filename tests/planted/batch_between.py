"""The next batch is fetched between forward and backward, as nanoGPT does to overlap it with a GPU's work."""

from __future__ import annotations

import time

import torch
import torch.nn as nn

from planted import FEATURES, Delay, options, print_losses, regression

BATCH = 128


def get_batch(x: torch.Tensor, y: torch.Tensor, delay: Delay) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randint(len(x), (BATCH,))
    with delay:
        time.sleep(delay.sleep_s)
        while time.perf_counter_ns() < delay.spin_until_ns:
            pass
    return x[rows], y[rows]


def main() -> None:
    args = options(__doc__).parse_args()
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(FEATURES, 384), nn.ReLU(), nn.Linear(384, 384), nn.ReLU(), nn.Linear(384, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    all_x, all_y = regression(4096, args.seed)
    delay = Delay("data", args.delay_ms, args.busy)
    losses: list[torch.Tensor] = []
    x, y = get_batch(all_x, all_y, delay)
    for _ in range(args.steps):
        loss = nn.functional.mse_loss(model(x), y)
        x, y = get_batch(all_x, all_y, delay)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
    print_losses(losses)


if __name__ == "__main__":
    main()
