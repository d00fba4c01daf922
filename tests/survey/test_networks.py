"""The reference networks are what they are called: they train, and have the published parameters and multiply-adds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from longpole.errors import LongpoleError
from longpole.survey.catalogue import NETWORKS, build, find, names
from longpole.survey.networks.pictures import Digits, Pictures, _drawn
from longpole.survey.networks.texts import BYTES, Crops, tokens

PUBLISHED = [network.name for network in NETWORKS if network.published]
WITH_MACS = [network.name for network in NETWORKS if network.published and network.published.forward_macs]


def test_names_are_told_apart_and_unknown_ones_are_refused() -> None:
    assert len(set(names())) == len(NETWORKS) >= 20
    with pytest.raises(LongpoleError, match=r"no reference network is called alexnet.*--list"):
        find("alexnet")
    with pytest.raises(LongpoleError, match="no size is called huge"):
        build("mlp", "huge")


@pytest.mark.parametrize("name", names())
def test_a_step_gives_every_parameter_a_gradient_and_changes_it(name: str) -> None:
    torch.manual_seed(0)
    training = build(name, "tiny")
    model = training.model.train()
    optimizers = training.optimizers(model)
    batch = next(iter(DataLoader(training.data, training.batch_size, shuffle=True, drop_last=True)))
    before = {path: parameter.detach().clone() for path, parameter in model.named_parameters()}
    for _ in range(2):
        if training.turn is not None:
            training.turn(model, optimizers, batch)
        else:
            loss = training.loss(model, batch)
            assert loss.shape == ()
            assert torch.isfinite(loss)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
    held = {id(parameter) for one in optimizers for group in one.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.parameters()}
    assert all(parameter.grad is not None for parameter in model.parameters())
    same = [path for path, parameter in model.named_parameters() if torch.equal(parameter, before[path])]
    # A bias before a batch normalization has no effect, and an expert that no token is sent to learns nothing.
    assert len(same) <= len(before) // 4


@pytest.mark.parametrize("name", ["lenet", "gan", "bert-base"])
def test_the_same_seed_gives_the_same_loss(name: str) -> None:
    def loss() -> float:
        torch.manual_seed(3)
        training = build(name, "tiny")
        batch = next(iter(DataLoader(training.data, training.batch_size, shuffle=True, drop_last=True)))
        return training.loss(training.model, batch).item()

    assert loss() == loss()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_at_full_size_are_exactly_the_published_ones(name: str) -> None:
    published = find(name).published
    assert published is not None
    with torch.device("meta"):  # shapes without memory
        training = build(name, "full")
    assert training.parameters == published.parameters


@pytest.mark.parametrize("name", WITH_MACS)
def test_multiply_adds_at_full_size_are_the_published_ones(name: str) -> None:
    published = find(name).published
    assert published is not None
    assert published.forward_macs is not None
    with torch.device("meta"):
        model = build(name, "full").model
        with FlopCounterMode(display=False) as counted:
            model(torch.empty(1, 3, 224, 224))
    assert counted.get_total_flops() / 2 == pytest.approx(published.forward_macs, rel=0.01)


def test_gpt2_takes_six_flops_a_parameter_and_token_and_attention() -> None:
    """Forward of T tokens: 2 T (12 L d^2 + V d) in layers and head, 2 products of 2 T^2 d in each layer's attention."""
    context, layers, width, vocabulary = 1024, 12, 768, 50_257
    with torch.device("meta"):
        training = build("gpt2", "full")
        with FlopCounterMode(display=False) as counted:
            training.model(torch.empty(1, context, dtype=torch.long)).sum().backward()
    products = 12 * layers * width**2 + vocabulary * width
    attention = layers * 2 * 2 * context**2 * width
    forward = 2 * context * products + attention
    assert products == pytest.approx(training.parameters, rel=0.01)  # the rest: positions, norms, biases
    # Backward makes both gradients of every product; that of fused attention makes the scores once more.
    assert counted.get_total_flops() in (3 * forward, 3 * forward + attention // 2)
    assert counted.get_total_flops() == pytest.approx(6 * training.parameters * context + 3 * attention, rel=0.03)


def test_dlrm_has_the_rows_and_layers_of_its_script() -> None:
    rows = 33_762_577 * 16
    bottom = (13 * 512 + 512) + (512 * 256 + 256) + (256 * 64 + 64) + (64 * 16 + 16)
    pairs = 27 * 26 // 2
    top = ((16 + pairs) * 512 + 512) + (512 * 256 + 256) + (256 + 1)
    published = find("dlrm").published
    assert published is not None
    assert published.parameters == rows + bottom + top


def test_the_page_lists_every_network_with_its_published_parameters() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "reference-networks.md").read_text().splitlines()
    listed = {line.split("`")[1]: line for line in lines if line.startswith("| `")}
    assert list(listed) == names()
    for network in NETWORKS:
        if network.published and network.published.parameters:
            assert f" {network.published.parameters:,}" in listed[network.name]


def test_words_are_numbered_by_how_often_they_occur() -> None:
    text = tokens(300)
    counts = torch.bincount(text, minlength=300)
    assert int(text.max()) == 299
    assert (counts[:-1].diff() <= 0).all()
    assert len(tokens(BYTES)) > len(text)


def test_a_crop_s_targets_are_its_tokens_one_later() -> None:
    x, y = Crops(BYTES, 12)[0]
    assert x.shape == y.shape == (12,)
    assert torch.equal(x[1:], y[:-1])


def test_pictures_are_crops_of_the_right_size_and_digits_can_be_drawn() -> None:
    picture, label = Pictures(4, 16, 10)[2]
    assert picture.shape == (3, 16, 16)
    assert 0 <= int(label) < 10
    assert Digits(28)[0][0].shape == (1, 28, 28)
    images, labels = _drawn(200)
    assert images.shape == (200, 1, 8, 8)
    lit = [(images[labels == digit].mean(0) > 0.4).sum() for digit in (1, 8)]
    assert lit[0] < lit[1]  # an eight has every stroke, a one two


TOKENS = {"gpt2": 1024, "llama": 1024, "bert-base": 512}
PIXELS = {"resnet50": 224, "convnext-t": 224, "vit-b16": 224, "mobilenetv2": 224, "diffusion": 32}


def full_inputs(name: str, batch: int) -> list[torch.Tensor]:
    if name in TOKENS:
        text = torch.zeros(batch, TOKENS[name], dtype=torch.long, device="meta")
        return [text, text] if name == "bert-base" else [text]
    pictures = torch.zeros(batch, 3, PIXELS[name], PIXELS[name], device="meta")
    return [pictures, torch.zeros(batch, device="meta")] if name == "diffusion" else [pictures]


@pytest.mark.parametrize("name", [*TOKENS, *PIXELS])
def test_full_size_with_its_batch_fits_a_machine_with_24_gib(name: str) -> None:
    """What backward keeps, parameters, gradients and two numbers of state for each: shapes alone, no memory."""
    with torch.device("meta"):
        training = build(name, "full")
    parameters = {parameter.untyped_storage()._cdata for parameter in training.model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        training.model(*full_inputs(name, training.batch_size))
    saved = sum(storage.nbytes() for address, storage in kept.items() if address not in parameters)
    held = 4 * 4 * sum(parameter.numel() for parameter in training.model.parameters())
    assert saved > 2**30  # else nothing was counted
    assert saved + held < 16 * 2**30  # the rest is for torch, data, and what passes by
