"""bfloat16 autocast on the CPU, clipping, and with --scaler a GradScaler; the delay is in the batch function."""

from __future__ import annotations

import time

import torch
import torch.nn as nn

from planted import FEATURES, Delay, options, print_losses, regression

BATCH = 32


def get_batch(x: torch.Tensor, y: torch.Tensor, delay: Delay) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randint(len(x), (BATCH,))
    with delay:
        time.sleep(delay.sleep_s)
        while time.perf_counter_ns() < delay.spin_until_ns:
            pass
    return x[rows], y[rows]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--scaler", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(FEATURES, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", enabled=args.scaler)
    all_x, all_y = regression(4096, args.seed)
    delay = Delay("data", args.delay_ms, args.busy)
    losses: list[torch.Tensor] = []
    for _ in range(args.steps):
        x, y = get_batch(all_x, all_y, delay)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            prediction = model(x)
        loss = nn.functional.mse_loss(prediction.float(), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.detach())
    print_losses(losses)


if __name__ == "__main__":
    main()
