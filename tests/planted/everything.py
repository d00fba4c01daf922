"""All delays at once, each of a size of its own: data, one layer's forward, its backward, optimizer, logging."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

from planted import FEATURES, Delay, options, regression

BATCH = 128
MS = {"data": 4.0, "forward": 3.0, "backward": 5.0, "optimizer": 2.0, "other": 3.5}


class SlowBatches(Dataset):
    """An item is a whole batch, so that its delay is one wait and not a wait for each row."""

    def __init__(self, delay: Delay) -> None:
        self.x, self.y = regression(64 * BATCH)
        self.delay = delay

    def __len__(self) -> int:
        return len(self.x) // BATCH

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with self.delay as delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        rows = slice(index * BATCH, (index + 1) * BATCH)
        return self.x[rows], self.y[rows]


def get_batch(batches: SlowBatches) -> tuple[torch.Tensor, torch.Tensor]:
    return batches[int(torch.randint(len(batches), ()))]


class SlowGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, delay: Delay) -> torch.Tensor:
        ctx.delay = delay
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        with ctx.delay as delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        return grad.clone(), None


class SlowBlock(nn.Module):
    def __init__(self, width: int, forward_delay: Delay, backward_delay: Delay) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.forward_delay = forward_delay
        self.backward_delay = backward_delay

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.forward_delay as delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        return torch.relu(SlowGradient.apply(self.linear(x), self.backward_delay))


class Net(nn.Module):
    def __init__(self, forward_delay: Delay, backward_delay: Delay) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, 384)
        self.slow = SlowBlock(384, forward_delay, backward_delay)
        self.fast = nn.Linear(384, 384)
        self.head = nn.Linear(384, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.fast(self.slow(torch.relu(self.stem(x))))))


class SlowSGD(torch.optim.SGD):
    def __init__(self, params: Any, delay: Delay) -> None:
        super().__init__(params, lr=0.01)
        self.delay = delay

    def step(self, closure: Any = None) -> Any:
        with self.delay as delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        return super().step(closure)


def log(step: int, loss: torch.Tensor, delay: Delay) -> None:
    print(f"step {step} loss {loss.item().hex()}")
    with delay:
        time.sleep(delay.sleep_s)
        while time.perf_counter_ns() < delay.spin_until_ns:
            pass


def main() -> None:
    parser = options(__doc__, delay_ms=1.0)
    parser.add_argument("--data", choices=["loader", "function"], default="loader")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    # --delay-ms is a factor here: the sizes stay different from one another.
    delays = {name: Delay(name, ms * args.delay_ms, args.busy) for name, ms in MS.items()}
    batches = SlowBatches(delays["data"])
    loader = DataLoader(batches, batch_size=None, shuffle=True)
    model = Net(delays["forward"], delays["backward"])
    optimizer = SlowSGD(model.parameters(), delays["optimizer"])
    batch_iterator = iter(loader)
    for step in range(args.steps):
        if args.data == "function":
            x, y = get_batch(batches)
        else:
            try:
                x, y = next(batch_iterator)
            except StopIteration:
                batch_iterator = iter(loader)
                x, y = next(batch_iterator)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        log(step, loss, delays["other"])


if __name__ == "__main__":
    main()
