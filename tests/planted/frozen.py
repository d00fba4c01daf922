"""Freezing a layer's weights removes its weight gradient; detaching its input removes its input gradient.

    python frozen.py --net conv --freeze middle --detach middle

Every net is first, middle, last, and each of the three does enough work to be measured. There is no delay.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from planted import options, print_losses

BATCH = 32


class LSTMOutput(nn.Module):
    """The LSTM's output only: a chain of modules wants a tensor, and not the pair that nn.LSTM returns."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width))


class Net(nn.Module):
    def __init__(self, first: nn.Module, middle: nn.Module, last: nn.Module, detach: str) -> None:
        super().__init__()
        self.first = first
        self.middle = middle
        self.last = last
        self.detach = detach

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in ("first", "middle", "last"):
            layer = getattr(self, name)
            x = layer(x.detach() if name == self.detach else x)
            if name != "last" and x.is_floating_point():
                x = torch.relu(x)
        return x


def build(net: str, detach: str) -> tuple[Net, torch.Tensor]:
    """The net and one batch of input for it."""
    image, sequence = torch.randn(BATCH, 16, 24, 24), torch.randn(BATCH, 48, 256)
    wide = torch.randn(4 * BATCH, 1024)
    if net == "linear":
        return Net(nn.Linear(1024, 1024), nn.Linear(1024, 1024), nn.Linear(1024, 256), detach), wide
    if net == "conv":
        convs = [nn.Conv2d(16, 48, 3, padding=1), nn.Conv2d(48, 48, 3, padding=1), nn.Conv2d(48, 16, 3, padding=1)]
        return Net(*convs, detach), image
    if net == "batchnorm":
        layers = [nn.Conv2d(16, 48, 3, padding=1), nn.BatchNorm2d(48), nn.Conv2d(48, 16, 3, padding=1)]
        return Net(*layers, detach), image
    if net == "attention":
        return Net(nn.Linear(256, 256), Attention(256, 4), nn.Linear(256, 256), detach), sequence
    if net == "embedding":
        layers = [nn.Embedding(4096, 256), nn.Linear(256, 256), nn.Linear(256, 256)]
        return Net(*layers, detach), torch.randint(4096, (BATCH, 48))
    return Net(nn.Linear(256, 256), LSTMOutput(256, 256), nn.Linear(256, 256), detach), sequence


def main() -> None:
    parser = options(__doc__, steps=40)
    nets = ["linear", "conv", "batchnorm", "attention", "embedding", "lstm"]
    parser.add_argument("--net", choices=nets, default="linear")
    parser.add_argument("--freeze", default="", metavar="LAYER", help="first, middle, last, or a longer path")
    parser.add_argument("--detach", choices=["", "first", "middle", "last"], default="")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model, x = build(args.net, args.detach)
    if args.freeze:
        model.get_submodule(args.freeze).requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
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
