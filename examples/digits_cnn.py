"""Trains a small convolutional net on scikit-learn's 1,797 handwritten digits, through a DataLoader with workers.

python examples/digits_cnn.py --epochs 5
"""

from __future__ import annotations

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

HELD_OUT = 360


class Digits(Dataset[tuple[torch.Tensor, int]]):
    """8 x 8 grey pictures enlarged to 32 x 32; while training, moved about by up to three pixels."""

    def __init__(self, images: torch.Tensor, labels: list[int], augment: bool) -> None:
        self.images = images  # (pictures, 1, 8, 8), 0 to 1
        self.labels = labels
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = F.interpolate(self.images[index][None], size=(32, 32), mode="bilinear", align_corners=False)[0]
        if self.augment:
            down, right = torch.randint(-3, 4, (2,)).tolist()
            image = torch.roll(image, (down, right), dims=(1, 2))
        return (image - 0.3) / 0.35, self.labels[index]


def conv_block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


class DigitNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = conv_block(1, width)
        self.middle = conv_block(width, 2 * width)
        self.top = conv_block(2 * width, 4 * width)
        self.drop = nn.Dropout(0.2)
        self.classifier = nn.Linear(4 * width * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.top(self.middle(self.stem(x)))
        return self.classifier(self.drop(x.flatten(1)))


def load_data(seed: int) -> tuple[Digits, Digits]:
    digits = load_digits()
    images = torch.as_tensor(digits.images, dtype=torch.float32)[:, None] / 16.0
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).tolist()
    held_out, train = order[:HELD_OUT], order[HELD_OUT:]
    labels = digits.target.tolist()
    return (
        Digits(images[train], [labels[i] for i in train], augment=True),
        Digits(images[held_out], [labels[i] for i in held_out], augment=False),
    )


@torch.no_grad()
def accuracy(model: nn.Module, loader: DataLoader[tuple[torch.Tensor, int]]) -> float:
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in loader)
    model.train()
    return right / HELD_OUT


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a conv net on scikit-learn's digits.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    train_set, test_set = load_data(args.seed)
    train_loader = DataLoader(
        train_set, args.batch_size, shuffle=True, num_workers=args.workers, persistent_workers=args.workers > 0
    )
    test_loader = DataLoader(test_set, batch_size=120)
    model = DigitNet(args.width)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs * len(train_loader))

    for epoch in range(args.epochs):
        total = 0.0
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        mean_loss = total / len(train_loader)
        print(f"epoch {epoch + 1}  loss {mean_loss:.4f}  accuracy {accuracy(model, test_loader):.3f}")


if __name__ == "__main__":
    main()
