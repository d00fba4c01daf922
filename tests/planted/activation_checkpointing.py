"""Two blocks under torch.utils.checkpoint: `slow` runs its forward, and its delay, again in backward (recompute)."""

from __future__ import annotations

import time

import torch
import torch.nn as nn
from torch.utils.checkpoint import checkpoint

from planted import FEATURES, Delay, options, print_losses, regression

BATCH = 128


class SlowBlock(nn.Module):
    def __init__(self, width: int, forward_delay: Delay, recompute_delay: Delay) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.forward_delay = forward_delay
        self.recompute_delay = recompute_delay

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        in_backward = torch._C._current_graph_task_id() != -1
        with self.recompute_delay if in_backward else self.forward_delay as delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        return torch.relu(self.linear(x))


class Net(nn.Module):
    def __init__(self, forward_delay: Delay, recompute_delay: Delay, reentrant: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, 384)
        self.slow = SlowBlock(384, forward_delay, recompute_delay)
        self.fast = nn.Sequential(nn.Linear(384, 384), nn.ReLU(), nn.Linear(384, 384), nn.ReLU())
        self.head = nn.Linear(384, 1)
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = checkpoint(self.slow, x, use_reentrant=self.reentrant)
        x = checkpoint(self.fast, x, use_reentrant=self.reentrant)
        return self.head(x)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--reentrant", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    forward_delay = Delay("forward", args.delay_ms, args.busy)
    recompute_delay = Delay("recompute", args.delay_ms, args.busy)
    model = Net(forward_delay, recompute_delay, args.reentrant)
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
