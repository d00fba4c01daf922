"""No module at all: tensors and torch.nn.functional, the delay in the batch function.

With --manual there is no optimizer either: torch.autograd.grad, and the update written out.
"""

from __future__ import annotations

import time
from itertools import pairwise

import torch
import torch.nn.functional as F

from planted import FEATURES, Delay, options, print_losses, regression

BATCH = 128
WIDTH = 384


def get_batch(x: torch.Tensor, y: torch.Tensor, delay: Delay, whole: Delay) -> tuple[torch.Tensor, torch.Tensor]:
    with whole:
        rows = torch.randint(len(x), (BATCH,))
        with delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        return x[rows], y[rows]


def predict(weights: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    *hidden, last = weights
    for weight in hidden:
        x = F.relu(F.linear(x, weight))
    return F.linear(x, last)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--manual", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    sizes = [FEATURES, WIDTH, WIDTH, 1]
    weights = [(torch.randn(n, m) / m**0.5).requires_grad_() for m, n in pairwise(sizes)]
    all_x, all_y = regression(4096, args.seed)
    delay, whole = Delay("data", args.delay_ms, args.busy), Delay("batch", 0)
    optimizer = None if args.manual else torch.optim.SGD(weights, lr=0.01)
    losses: list[torch.Tensor] = []
    for _ in range(args.steps):
        x, y = get_batch(all_x, all_y, delay, whole)
        loss = F.mse_loss(predict(weights, x), y)
        if optimizer is None:
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.sub_(gradient, alpha=0.01)
        else:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.detach())
    print_losses(losses)


if __name__ == "__main__":
    main()
