"""U-Net (Ronneberger et al. 2015) with padded convolutions: which of two classes each pixel is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from longpole.survey.networks.training import Batch, Training, sgd

# (pixels, batch, channels of the first level)
SIZES = {"tiny": (32, 1, 8), "small": (96, 2, 32), "full": (512, 2, 64)}
LEVELS = 5
SEED = 7


class Cells(Dataset[tuple[Tensor, ...]]):
    """Grey pictures of bright discs in noise, and which pixels are a disc's, as a microscope's are labelled."""

    def __init__(self, count: int, size: int) -> None:
        random = torch.Generator().manual_seed(SEED)
        at = torch.arange(size)
        discs = torch.rand(count, 12, 3, generator=random)  # row, column, radius
        rows, columns = (at[:, None] - discs[..., 0, None, None] * size), (at - discs[..., 1, None, None] * size)
        inside = rows**2 + columns**2 < (size * (0.03 + 0.07 * discs[..., 2, None, None])) ** 2
        self.masks = inside.any(1).long()
        self.pictures = self.masks[:, None] + 0.5 * torch.randn(count, 1, size, size, generator=random)

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        turns = int(torch.randint(4, ()))
        return torch.rot90(self.pictures[index], turns, (1, 2)), torch.rot90(self.masks[index], turns, (0, 1))


def double_conv(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels_out, channels_out, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, width: int, channels: int = 1, classes: int = 2) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        self.down = nn.ModuleList(double_conv(a, b) for a, b in zip([channels, *widths], widths, strict=False))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
        self.merge = nn.ModuleList(double_conv(a, b) for a, b in pairs)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for level, conv in enumerate(self.down):
            x = conv(self.pool(x) if level else x)
            kept.append(x)
        kept.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat((kept.pop(), up(x)), 1))
        return self.head(x)


def pixel_loss(model: nn.Module, batch: Batch) -> Tensor:
    pictures, masks = batch
    return functional.cross_entropy(model(pictures), masks)


def unet(size: str) -> Training:
    pixels, batch, width = SIZES[size]
    return Training(UNet(width), Cells(4 * batch, pixels), batch, pixel_loss, sgd(0.01, 0.99, 0.0))
