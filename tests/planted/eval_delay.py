"""Every --every steps an evaluation without gradients, and the delay in it: one wait a held-out batch."""

from __future__ import annotations

import time

import torch
import torch.nn as nn

from planted import FEATURES, Delay, options, print_losses, regression

BATCH = 128


def evaluate(model: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]], delay: Delay, how: str) -> float:
    model.eval()
    total = 0.0
    with torch.inference_mode() if how == "inference_mode" else torch.no_grad():
        for x, y in batches:
            total += nn.functional.mse_loss(model(x), y).item()
            with delay:
                time.sleep(delay.sleep_s)
                while time.perf_counter_ns() < delay.spin_until_ns:
                    pass
    model.train()
    return total / len(batches)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--how", choices=["no_grad", "inference_mode"], default="no_grad")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(FEATURES, 384), nn.ReLU(), nn.Linear(384, 384), nn.ReLU(), nn.Linear(384, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = regression(BATCH, args.seed)
    held_out = [regression(BATCH, seed) for seed in (100, 101, 102)]
    delay = Delay("evaluation", args.delay_ms, args.busy)
    losses: list[torch.Tensor] = []
    for step in range(args.steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if (step + 1) % args.every == 0:
            print(f"held-out loss {evaluate(model, held_out, delay, args.how).hex()}")
    print_losses(losses)


if __name__ == "__main__":
    main()
