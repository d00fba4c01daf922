"""The training runs in a thread of its own, as in servers and user interfaces; the main thread waits for it."""

from __future__ import annotations

import threading
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


def train(steps: int, seed: int, delay: Delay, losses: list[torch.Tensor]) -> None:
    model = nn.Sequential(nn.Linear(FEATURES, 384), nn.ReLU(), nn.Linear(384, 384), nn.ReLU(), nn.Linear(384, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    all_x, all_y = regression(4096, seed)
    for _ in range(steps):
        x, y = get_batch(all_x, all_y, delay)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())


def main() -> None:
    args = options(__doc__).parse_args()
    torch.manual_seed(args.seed)
    losses: list[torch.Tensor] = []
    delay = Delay("data", args.delay_ms, args.busy)
    thread = threading.Thread(target=train, args=(args.steps, args.seed, delay, losses))
    thread.start()
    thread.join()
    print_losses(losses)


if __name__ == "__main__":
    main()
