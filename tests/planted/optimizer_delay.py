"""The delay is in the optimizer: a subclass of SGD that waits before it steps."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn as nn

from planted import FEATURES, Delay, options, print_losses, regression

BATCH = 128


class SlowSGD(torch.optim.SGD):
    def __init__(self, params: Any, delay: Delay) -> None:
        super().__init__(params, lr=0.01, momentum=0.9)
        self.delay = delay

    def step(self, closure: Any = None) -> Any:
        with self.delay as delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        return super().step(closure)


def main() -> None:
    args = options(__doc__).parse_args()
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(FEATURES, 384), nn.ReLU(), nn.Linear(384, 384), nn.ReLU(), nn.Linear(384, 1))
    optimizer = SlowSGD(model.parameters(), Delay("optimizer", args.delay_ms, args.busy))
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
