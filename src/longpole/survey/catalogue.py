"""The reference networks: a visible list, with what is published of each. Imports no torch."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, replace
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
    needs: str | None = None  # a package beside torch that builds it


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
    Network(
        "convnext-t",
        "convnext:convnext_t",
        "vision",
        "depthwise convolutions and perceptrons; AdamW",
        Published(_VISION_TABLE, 28_589_128, 4.46e9),
    ),
    Network(
        "mobilenetv2",
        "mobilenet:mobilenetv2",
        "vision",
        "inverted residuals with depthwise convolutions; SGD with momentum",
        Published(_VISION_TABLE, 3_504_872, 0.30e9),
    ),
    Network("unet", "unet:unet", "vision", "segmentation of cells; SGD with momentum 0.99"),
    Network(
        "vit-b16",
        "vit:vit_b16",
        "vision",
        "vision transformer; AdamW, clipped",
        Published(_VISION_TABLE, 86_567_656, 17.56e9),
    ),
    Network(
        "vit-ti16",
        "vit:vit_ti16",
        "vision",
        "the small vision transformer; AdamW, clipped",
        Published("Touvron et al. 2021, table 1: 5 M; both figures as counted on paper", 5_717_416, 1.26e9),
    ),
    Network("lstm-lm", "lstm_lm:lstm_lm", "language", "LSTM language model on words; SGD, clipped"),
    Network("deepspeech2", "deepspeech:deepspeech2", "speech", "convolutions, bidirectional GRUs, CTC; SGD, clipped"),
    Network(
        "gpt2",
        "gpt:gpt2",
        "language",
        "GPT-2 small on words; AdamW, clipped",
        Published("GPT2Config() of transformers, GPT2Model.num_parameters()", 124_439_808),
    ),
    Network("gpt-tiny", "gpt:gpt_tiny", "language", "a small GPT on bytes; AdamW, clipped"),
    Network(
        "bert-base",
        "bert:bert_base",
        "language",
        "masked words and following sentences; AdamW, clipped",
        Published("BertConfig() of transformers, BertModel.num_parameters()", 109_482_240),
    ),
    Network(
        "llama",
        "llama:llama",
        "language",
        "Llama's kind of transformer on words; AdamW, clipped",
        Published("huggingface.co/HuggingFaceTB/SmolLM-135M, config.json", 134_515_008),
    ),
    Network("moe", "llama:mixture", "language", "eight experts, two for each token; AdamW, clipped"),
    Network(
        "mamba",
        "mamba:mamba",
        "language",
        "state space model, its scan a loop; AdamW, clipped",
        Published("huggingface.co/state-spaces/mamba-130m, config.json", 129_135_360),
    ),
    Network(
        "dlrm",
        "dlrm:dlrm",
        "recommendation",
        "26 embedding tables, products of pairs; SGD, sparse gradients",
        Published(
            "facebookresearch/dlrm, dlrm_s_criteo_kaggle.sh: 33,762,577 rows of 16, and its perceptrons", 540_677_217
        ),
    ),
    Network("graph", "graph:graph", "graph", "GIN on molecules; Adam"),
    Network(
        "gan",
        "gan:gan",
        "generative",
        "DCGAN, two networks and two optimizers; Adam",
        Published("pytorch/examples, dcgan: generator 3,576,704 and discriminator 2,765,568", 6_342_272),
    ),
    Network(
        "diffusion",
        "diffusion:diffusion",
        "generative",
        "DDPM's U-Net with time and attention; Adam, clipped",
        Published("Ho et al. 2020, appendix B: 35.7 M", 35_746_307),
    ),
    Network(
        "pinn",
        "pinn:pinn",
        "science",
        "Burgers' equation by second derivatives; Adam",
        Published("Raissi et al. 2019: nine layers of 20, counted on paper", 3_021),
    ),
)

HF = "-hf"  # what a name has more where transformers builds the network
_BUILT = (
    ("gpt2", "gpt2_hf"), ("bert-base", "bert_base_hf"), ("llama", "llama_hf"), ("mamba", "mamba_hf"),
    ("vit-b16", "vit_b16_hf"), ("convnext-t", "convnext_t_hf"),
)  # fmt: skip


def names() -> list[str]:
    """Of the networks in plain torch."""
    return [network.name for network in NETWORKS]


def _from_transformers(name: str, function: str) -> Network:
    plain = next(network for network in NETWORKS if network.name == name)
    says = f"{name} as transformers builds it from its configuration"
    return replace(plain, name=f"{name}{HF}", where=f"hf:{function}", says=says, needs="transformers")


# The same networks once more, by the library that most people train them with. None of them is in `--all`: that is the
# same on every machine, whatever is installed there.
FROM_TRANSFORMERS: Sequence[Network] = tuple(_from_transformers(name, function) for name, function in _BUILT)


def is_available(network: Network) -> bool:
    """Whether what builds it is installed; nothing is imported for the answer."""
    return network.needs is None or importlib.util.find_spec(network.needs) is not None


def find(name: str) -> Network:
    """The network of that name. Raises LongpoleError where there is none, or what it needs is not installed."""
    for network in (*NETWORKS, *FROM_TRANSFORMERS):
        if network.name != name:
            continue
        if not is_available(network):
            raise LongpoleError(
                f"{name} is built by {network.needs}, which is not installed: pip install {network.needs}; "
                f"{name.removesuffix(HF)} is the same network in plain torch"
            )
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
