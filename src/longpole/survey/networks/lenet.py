"""LeNet-5 (LeCun et al. 1998), with every connection of its third layer and ReLU for its curves."""

from __future__ import annotations

from torch import Tensor, nn

from longpole.survey.networks.classify import cross_entropy
from longpole.survey.networks.pictures import Digits
from longpole.survey.networks.training import Training, sgd

BATCH = {"tiny": 16, "small": 128, "full": 128}


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.act = nn.ReLU()
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(self.conv1(x)))
        x = self.pool(self.act(self.conv2(x))).flatten(1)
        return self.fc3(self.act(self.fc2(self.act(self.fc1(x)))))


def lenet(size: str) -> Training:
    return Training(LeNet(), Digits(32), BATCH[size], cross_entropy, sgd(0.02))
