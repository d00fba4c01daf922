"""LBFGS calls a closure several times a step: forward and backward happen inside optimizer.step, with a delay."""

from __future__ import annotations

import time

import torch
import torch.nn as nn

from planted import FEATURES, Delay, options, print_losses, regression

BATCH = 128


def main() -> None:
    args = options(__doc__, delay_ms=2.0, steps=40).parse_args()
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(FEATURES, 384), nn.Tanh(), nn.Linear(384, 384), nn.Tanh(), nn.Linear(384, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4, history_size=5)
    x, y = regression(BATCH, args.seed)
    delay = Delay("other", args.delay_ms, args.busy)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        with delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        loss.backward()
        return loss

    print_losses([optimizer.step(closure).detach() for _ in range(args.steps)])


if __name__ == "__main__":
    main()
