"""The delay is in the logging after the step: neither data nor optimizer, though it lies between the two."""

from __future__ import annotations

import time

import torch
import torch.nn as nn

from planted import FEATURES, Delay, options, regression

BATCH = 128


def log(step: int, loss: torch.Tensor, delay: Delay) -> None:
    print(f"step {step} loss {loss.item().hex()}")
    with delay:
        time.sleep(delay.sleep_s)
        while time.perf_counter_ns() < delay.spin_until_ns:
            pass


def main() -> None:
    args = options(__doc__).parse_args()
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(FEATURES, 384), nn.ReLU(), nn.Linear(384, 384), nn.ReLU(), nn.Linear(384, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = regression(BATCH, args.seed)
    delay = Delay("other", args.delay_ms, args.busy)
    for step in range(args.steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        log(step, loss, delay)


if __name__ == "__main__":
    main()
