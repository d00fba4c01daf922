"""Every --every steps a torch.save, and the delay inside it: an object that is slow to pickle."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
import torch.nn as nn

from planted import FEATURES, Delay, options, print_losses, regression

BATCH = 128


class SlowState:
    def __init__(self, delay: Delay) -> None:
        self.delay = delay

    def __getstate__(self) -> dict[str, float]:
        with self.delay as delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        return {"ms": self.delay.ms}


def main() -> None:
    parser = options(__doc__, delay_ms=20.0)
    parser.add_argument("--every", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(FEATURES, 384), nn.ReLU(), nn.Linear(384, 384), nn.ReLU(), nn.Linear(384, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, y = regression(BATCH, args.seed)
    state = SlowState(Delay("checkpoint", args.delay_ms, args.busy))
    losses: list[torch.Tensor] = []
    with tempfile.TemporaryDirectory() as folder:
        for step in range(args.steps):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            if (step + 1) % args.every == 0:
                torch.save({"model": model.state_dict(), "state": state}, Path(folder) / "checkpoint.pt")
    print_losses(losses)


if __name__ == "__main__":
    main()
