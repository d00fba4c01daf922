"""MobileNetV2 (Sandler et al. 2018): inverted residuals with depthwise convolutions; many FLOPs are few here."""

from __future__ import annotations

from torch import Tensor, nn

from longpole.survey.networks.classify import cross_entropy
from longpole.survey.networks.pictures import Pictures
from longpole.survey.networks.training import Training, sgd

PIXELS = {"tiny": (32, 2), "small": (64, 16), "full": (224, 64)}
CLASSES = 1000
# (expansion, channels, blocks, stride of the first), table 2 of the paper
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def conv_norm_act(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        wider = [conv_norm_act(channels_in, hidden, 1)] if expansion > 1 else []
        self.body = nn.Sequential(
            *wider,
            conv_norm_act(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.adds = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


class MobileNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm_act(3, 32, 3, 2)]
        channels = 32
        for expansion, width, depth, first_stride in STAGES:
            for at in range(depth):
                layers.append(InvertedResidual(channels, width, first_stride if at == 0 else 1, expansion))
                channels = width
        layers.append(conv_norm_act(channels, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.2)
        self.classifier = nn.Linear(1280, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.drop(self.features(x).mean((2, 3))))


def mobilenetv2(size: str) -> Training:
    pixels, batch = PIXELS[size]
    return Training(MobileNetV2(), Pictures(4 * batch, pixels, CLASSES), batch, cross_entropy, sgd(0.05, decay=4e-5))
