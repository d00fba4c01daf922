"""One module called twice a forward (`shared`, with the delay), and an output layer whose weight is the embedding's."""

from __future__ import annotations

import time

import torch
import torch.nn as nn

from planted import Delay, options, print_losses

BATCH, LENGTH, WORDS, WIDTH = 16, 16, 512, 128


class SlowBlock(nn.Module):
    def __init__(self, width: int, delay: Delay) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.delay = delay

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.delay as delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        return x + torch.relu(self.linear(x))


class Net(nn.Module):
    def __init__(self, delay: Delay) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.shared = SlowBlock(WIDTH, delay)
        self.alias = self.shared  # the same module under a second name
        self.output = nn.Linear(WIDTH, WORDS, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.output(self.alias(self.shared(self.embedding(tokens))))


def main() -> None:
    args = options(__doc__, delay_ms=2.0).parse_args()
    torch.manual_seed(args.seed)
    model = Net(Delay("forward", args.delay_ms, args.busy))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(WORDS, (BATCH, LENGTH))
    targets = tokens.roll(1, dims=1)
    losses: list[torch.Tensor] = []
    for _ in range(args.steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens).view(-1, WORDS), targets.reshape(-1))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    print_losses(losses)


if __name__ == "__main__":
    main()
