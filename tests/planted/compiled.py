"""torch.compile round the model (--whole) or round one block of it; the delay is in the batch function, outside it."""

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
    parser = options(__doc__)
    parser.add_argument("--whole", action="store_true", help="compile the whole model, and not only its middle")
    parser.add_argument("--backend", default="inductor")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    middle = nn.Sequential(nn.Linear(384, 384), nn.GELU(), nn.LayerNorm(384))
    if not args.whole:
        middle = torch.compile(middle, backend=args.backend)
    model = nn.Sequential(nn.Linear(FEATURES, 384), middle, nn.Linear(384, 1))
    if args.whole:
        model = torch.compile(model, backend=args.backend)
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


if __name__ == "__main__":
    main()
