"""The delay is in the dataset: --delay-ms a batch, in equal parts a sample, loaded in the main process."""

from __future__ import annotations

import time

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

from planted import FEATURES, Delay, options, print_losses, regression

BATCH = 8


class SlowRows(Dataset):
    def __init__(self, delay: Delay) -> None:
        self.x, self.y = regression(4096)
        self.delay = delay

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with self.delay as delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        return self.x[index], self.y[index]


def main() -> None:
    args = options(__doc__, delay_ms=8.0).parse_args()
    torch.manual_seed(args.seed)
    loader = DataLoader(SlowRows(Delay("data", args.delay_ms / BATCH, args.busy)), batch_size=BATCH, shuffle=True)
    model = nn.Sequential(nn.Linear(FEATURES, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses: list[torch.Tensor] = []
    while len(losses) < args.steps:
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            if len(losses) == args.steps:
                break
    print_losses(losses)


if __name__ == "__main__":
    main()
