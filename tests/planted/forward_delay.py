"""The delay is in the forward of one layer, `slow`, and nowhere else."""

from __future__ import annotations

import time

import torch
import torch.nn as nn

from planted import FEATURES, Delay, options, print_losses, regression

BATCH = 128


class SlowBlock(nn.Module):
    def __init__(self, width: int, delay: Delay) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.delay = delay

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.delay as delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        return torch.relu(self.linear(x))


class Net(nn.Module):
    def __init__(self, delay: Delay) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, 384)
        self.slow = SlowBlock(384, delay)
        self.fast = nn.Linear(384, 384)
        self.head = nn.Linear(384, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.fast(self.slow(torch.relu(self.stem(x))))))


def main() -> None:
    args = options(__doc__).parse_args()
    torch.manual_seed(args.seed)
    model = Net(Delay("forward", args.delay_ms, args.busy))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = regression(BATCH, args.seed)
    losses: list[torch.Tensor] = []
    for _ in range(args.steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    print_losses(losses)


if __name__ == "__main__":
    main()
