"""Trains a convolutional net on five of scikit-learn's ten handwritten digits: from scratch, or from other weights.

Learn 0 to 4 and keep the weights, then learn 5 to 9 from them, and beside it from scratch:

    python examples/finetune_digits.py --digits 0-4 --save low.pt
    python examples/finetune_digits.py --digits 5-9 --start-from low.pt
    python examples/finetune_digits.py --digits 5-9
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

CLASSES = 5
HELD_OUT_SHARE = 0.25


def conv_block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class FiveDigits(nn.Module):
    """8 x 8 grey pictures to five classes; two poolings, so that features are of strokes and not of places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.edges = conv_block(1, width)
        self.strokes = conv_block(width, 2 * width)
        self.shapes = conv_block(2 * width, 4 * width)
        self.head = nn.Linear(4 * width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.strokes(self.edges(x)), 2)
        return self.head(F.adaptive_avg_pool2d(self.shapes(x), 2).amax((2, 3)))


def load_data(digits: str, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures (n, 1, 8, 8) from -1 to 1 and classes 0 to 4: to train on, and held out."""
    first, last = (int(end) for end in digits.split("-"))
    data = load_digits()
    images = torch.as_tensor(data.images, dtype=torch.float32)[:, None] / 8.0 - 1.0
    labels = torch.as_tensor(data.target)
    wanted = (labels >= first) & (labels <= last)
    images, labels = images[wanted], labels[wanted] - first
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    cut = int(len(images) * HELD_OUT_SHARE)
    held_out, train = order[:cut], order[cut:]
    return images[train], labels[train], images[held_out], labels[held_out]


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    model.eval()
    right = (model(x).argmax(1) == y).float().mean().item()
    model.train()
    return right


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train on five digits, from scratch or from other weights.")
    parser.add_argument("--digits", default="5-9", choices=["0-4", "5-9"])
    parser.add_argument("--start-from", type=Path, help="weights of the other five digits; the head stays new")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--width", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    x, y, held_x, held_y = load_data(args.digits, args.seed)
    model = FiveDigits(args.width)
    if args.start_from:
        weights = torch.load(args.start_from, weights_only=True)
        body = {name: tensor for name, tensor in weights.items() if not name.startswith("head.")}
        model.load_state_dict(body, strict=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)

    for step in range(1, args.steps + 1):
        rows = torch.randint(len(x), (args.batch_size,))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step}  loss {loss.item():.4f}  held-out accuracy {accuracy(model, held_x, held_y):.4f}")
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
