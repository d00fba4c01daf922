"""Residual networks (He et al. 2016): basic blocks and bottlenecks, the stride on the bottleneck's 3 x 3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from longpole.survey.networks.classify import cross_entropy
from longpole.survey.networks.pictures import Pictures
from longpole.survey.networks.training import Training, sgd

if TYPE_CHECKING:
    from collections.abc import Sequence

# (pixels, batch)
PIXELS_18 = {"tiny": (32, 2), "small": (64, 8), "full": (224, 32)}
PIXELS_50 = {"tiny": (32, 2), "small": (64, 4), "full": (224, 32)}
CLASSES = 1000
WIDTHS = (64, 128, 256, 512)


def conv_norm(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


class Residual(nn.Module):
    """`body` beside a shortcut, which is a 1 x 1 convolution where shapes differ."""

    def __init__(self, body: Sequence[nn.Module], channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if same else conv_norm(channels_in, channels_out, 1, stride)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x) + self.shortcut(x))


def basic(channels_in: int, width: int, stride: int) -> Residual:
    body = [conv_norm(channels_in, width, 3, stride), nn.ReLU(inplace=True), conv_norm(width, width, 3)]
    return Residual(body, channels_in, width, stride)


def bottleneck(channels_in: int, width: int, stride: int) -> Residual:
    body = [
        conv_norm(channels_in, width, 1),
        nn.ReLU(inplace=True),
        conv_norm(width, width, 3, stride),
        nn.ReLU(inplace=True),
        conv_norm(width, 4 * width, 1),
    ]
    return Residual(body, channels_in, 4 * width, stride)


class ResNet(nn.Module):
    def __init__(self, blocks: Sequence[int], *, bottlenecks: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_norm(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        )
        stages: list[nn.Module] = []
        channels = 64
        for stage, (width, depth) in enumerate(zip(WIDTHS, blocks, strict=True)):
            row: list[nn.Module] = []
            for at in range(depth):
                stride = 2 if stage and not at else 1
                row.append((bottleneck if bottlenecks else basic)(channels, width, stride))
                channels = width * (4 if bottlenecks else 1)
            stages.append(nn.Sequential(*row))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.stages(self.stem(x))).flatten(1))


def resnet18(size: str) -> Training:
    return _training(ResNet((2, 2, 2, 2), bottlenecks=False), *PIXELS_18[size])


def resnet50(size: str) -> Training:
    return _training(ResNet((3, 4, 6, 3), bottlenecks=True), *PIXELS_50[size])


def _training(model: ResNet, pixels: int, batch: int) -> Training:
    return Training(model, Pictures(4 * batch, pixels, CLASSES), batch, cross_entropy, sgd(0.05))
