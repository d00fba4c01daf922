"""A multilayer perceptron: three matrix products and next to nothing else."""

from __future__ import annotations

from torch import Tensor, nn

from longpole.survey.networks.classify import cross_entropy
from longpole.survey.networks.pictures import Digits
from longpole.survey.networks.training import Training, sgd

BATCH = {"tiny": 16, "small": 128, "full": 128}


class MLP(nn.Module):
    def __init__(self, inputs: int = 784, hidden: int = 512, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, classes)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(self.act(self.fc2(self.act(self.fc1(x.flatten(1))))))


def mlp(size: str) -> Training:
    return Training(MLP(), Digits(28), BATCH[size], cross_entropy, sgd(0.02))
