"""500 tiny modules: the step is all host work. There is no delay."""

from __future__ import annotations

import torch
import torch.nn as nn

from planted import options, print_losses

BATCH, WIDTH = 4, 8


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--modules", type=int, default=500)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = nn.Sequential(*(Tiny() for _ in range(args.modules)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.randn(BATCH, WIDTH)
    losses: list[torch.Tensor] = []
    for _ in range(args.steps):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    print_losses(losses)


if __name__ == "__main__":
    main()
