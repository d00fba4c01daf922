"""The reference networks: a visible list, with what is published of each. Imports no torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.survey.networks.training import Training

SIZES = ("tiny", "small", "full")  # of the tests; of a machine with two cores; as published


@dataclass(frozen=True, slots=True)
class Published:
    """What others state of the network at full size: parameters, multiply-adds forward of one sample."""

    source: str
    parameters: int | None = None
    forward_macs: float | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """One network of the survey. `where` is module:function in `longpole.survey.networks`."""

    name: str
    where: str
    family: str
    says: str
    published: Published | None = None


_VISION_TABLE = "table of classification weights, docs.pytorch.org/vision/stable/models.html"

NETWORKS: Sequence[Network] = (
    Network(
        "mlp",
        "mlp:mlp",
        "classic",
        "784-512-512-10 perceptron with ReLU; SGD with momentum",
        Published("Keras example mnist_mlp, model.summary()", 669_706),
    ),
    Network(
        "lenet",
        "lenet:lenet",
        "vision",
        "LeNet-5 on handwritten digits; SGD with momentum",
        Published("LeCun et al. 1998, with every connection of C3", 61_706),
    ),
    Network(
        "resnet18",
        "resnet:resnet18",
        "vision",
        "basic residual blocks; SGD with momentum",
        Published(_VISION_TABLE, 11_689_512, 1.81e9),
    ),
    Network(
        "resnet50",
        "resnet:resnet50",
        "vision",
        "bottleneck residual blocks; SGD with momentum",
        Published(_VISION_TABLE, 25_557_032, 4.09e9),
    ),
)


def names() -> list[str]:
    return [network.name for network in NETWORKS]


def find(name: str) -> Network:
    """The network of that name. Raises LongpoleError where there is none."""
    for network in NETWORKS:
        if network.name == name:
            return network
    raise LongpoleError(f"no reference network is called {name}; longpole survey --list has {', '.join(names())}")


def build(name: str, size: str) -> Training:
    """The training of that name, built from its configuration. Needs torch.

    Raises LongpoleError for a name or a size that does not exist.
    """
    if size not in SIZES:
        raise LongpoleError(f"no size is called {size}; there are {', '.join(SIZES)}")
    module, _, function = find(name).where.partition(":")
    return getattr(importlib.import_module(f"longpole.survey.networks.{module}"), function)(size)
