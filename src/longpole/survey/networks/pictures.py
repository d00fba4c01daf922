"""Pictures to train on without a download: drawn ones with the usual augmentation, and handwritten digits."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

MEAN, DEVIATION = 0.45, 0.25
MARGIN = 8  # pixels on each side that a random crop may move into, at most
SEED = 7


class Pictures(Dataset[tuple[Tensor, ...]]):
    """Bytes as a decoded photograph has them. An item is a random crop, mirrored or not, as floats round zero.

    A picture is smooth random colour, one pattern a class, and noise: a network can learn the classes.
    """

    def __init__(self, count: int, size: int, classes: int, channels: int = 3) -> None:
        random = torch.Generator().manual_seed(SEED)
        self.size = size
        self.labels = torch.randint(classes, (count,), generator=random)
        side = size + 2 * min(MARGIN, size // 4)
        shown = min(classes, 64)  # patterns; classes beyond share them
        patterns = torch.rand(shown, channels, 6, 6, generator=random)
        own = patterns[self.labels % shown] * 0.8 + torch.rand(count, channels, 6, 6, generator=random) * 0.2
        smooth = functional.interpolate(own, size=(side, side), mode="bilinear")
        self.pixels = (smooth * 255).to(torch.uint8)  # (count, channels, side, side)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        spare = self.pixels.shape[-1] - self.size
        top, left = torch.randint(spare + 1, (2,)).tolist()
        crop = self.pixels[index, :, top : top + self.size, left : left + self.size]
        if torch.rand(()) < 0.5:
            crop = crop.flip(-1)
        return (crop.float() / 255 - MEAN) / DEVIATION, self.labels[index]


class Digits(Dataset[tuple[Tensor, ...]]):
    """Handwritten digits, scikit-learn's 1,797 where it is installed, else drawn ones; (1, size, size) and a label."""

    def __init__(self, size: int) -> None:
        images, self.labels = _handwritten() or _drawn(1797)
        self.images = functional.interpolate(images, size=(size, size), mode="bilinear")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        down, right = torch.randint(-2, 3, (2,)).tolist()
        return torch.roll(self.images[index], (down, right), dims=(1, 2)), self.labels[index]


def _handwritten() -> tuple[Tensor, Tensor] | None:
    try:
        found = importlib.import_module("sklearn.datasets").load_digits()
    except ImportError:
        return None
    images = torch.as_tensor(found.images, dtype=torch.float32)[:, None] / 16
    return (images - 0.3) / 0.35, torch.as_tensor(found.target)


# Strokes of a clock's digits in an 8 x 8 picture: (rows, columns) of each segment, and which of them each digit has.
_SEGMENTS = (
    (slice(0, 1), slice(2, 6)), (slice(1, 4), slice(5, 6)), (slice(4, 7), slice(5, 6)), (slice(7, 8), slice(2, 6)),
    (slice(4, 7), slice(2, 3)), (slice(1, 4), slice(2, 3)), (slice(3, 5), slice(3, 5)),
)  # fmt: skip
_LIT = ("012345", "12", "01346", "01236", "1256", "02356", "023456", "012", "0123456", "012356")


def _drawn(count: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(SEED)
    glyphs = torch.zeros(10, 1, 8, 8)
    for digit, lit in enumerate(_LIT):
        for segment in lit:
            rows, columns = _SEGMENTS[int(segment)]
            glyphs[digit, 0, rows, columns] = 1.0
    labels = torch.randint(10, (count,), generator=random)
    noisy = glyphs[labels] + 0.2 * torch.randn(count, 1, 8, 8, generator=random)
    return (noisy - 0.3) / 0.35, labels
