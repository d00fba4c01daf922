"""The networks that transformers builds are the plain ones: as many parameters, and the same FLOPs, op by op."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from longpole.cli.survey import choose, command
from longpole.errors import LongpoleError
from longpole.survey import catalogue
from longpole.survey.catalogue import FROM_TRANSFORMERS, HF, NETWORKS, build, find, names
from longpole.survey.rows import Measured, rows_of
from longpole.survey.run_one import Asked, run_one

if TYPE_CHECKING:
    from torch import nn

BUILT = [network.name for network in FROM_TRANSFORMERS]
PIXELS = {("vit-b16-hf", "small"): 112, ("vit-b16-hf", "full"): 224, ("convnext-t-hf", "small"): 64,
          ("convnext-t-hf", "full"): 224}  # fmt: skip
NEEDS = pytest.mark.frameworks


def need_transformers() -> None:
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed; make test-frameworks installs it")


def test_without_transformers_one_line_says_so_and_all_is_the_same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "is_available", lambda network: network.needs is None)
    with pytest.raises(LongpoleError, match=r"^gpt2-hf is built by transformers, .*pip install transformers; gpt2 is"):
        find("gpt2-hf")
    shown = CliRunner().invoke(command, ["--list"]).output
    *listed, empty, last = shown.splitlines()
    assert [line.split()[0] for line in listed] == names()
    assert empty == ""
    assert last == f"Where transformers is installed, also: {', '.join(BUILT)}"
    assert choose([], everything=True) == list(NETWORKS)


def test_with_transformers_they_are_listed_and_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "is_available", lambda network: True)
    shown = CliRunner().invoke(command, ["--list"]).output
    assert [line.split()[0] for line in shown.splitlines()] == [*names(), *BUILT]
    assert [one.name for one in choose(["gpt2-hf", "gpt2"], everything=False)] == ["gpt2", "gpt2-hf"]
    assert choose([], everything=True) == list(NETWORKS)
    assert all(name.removesuffix(HF) in names() for name in BUILT)


def products_of(model: nn.Module, *inputs: torch.Tensor) -> dict[str, int]:
    with FlopCounterMode(display=False) as counted:
        model.eval()(*inputs)
    return {str(op): flops for op, flops in counted.get_flop_counts()["Global"].items()}


@NEEDS
@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("name", BUILT)
def test_parameters_and_forward_flops_are_those_of_the_plain_network(name: str, size: str) -> None:
    """Every product, class by class of torch's counter; shapes alone, no memory."""
    need_transformers()
    with torch.device("meta"):
        plain, built = build(name.removesuffix(HF), size), build(name, size)
        built.model.config.use_cache = True  # else the library looks for packed texts, in values that are not there
        side = PIXELS.get((name, size))
        inputs = (torch.empty(1, 3, side, side) if side else torch.zeros(1, 16, dtype=torch.long),)
        of_plain = (*inputs, torch.zeros_like(inputs[0])) if name.startswith("bert") else inputs
        assert products_of(built.model, *inputs) == products_of(plain.model, *of_plain)
    assert built.parameters == plain.parameters
    published = find(name).published
    assert published is not None
    assert size != "full" or built.parameters == published.parameters


@NEEDS
@pytest.mark.parametrize("name", BUILT)
def test_what_a_run_of_it_says_adds_up(name: str) -> None:
    need_transformers()
    (row,) = rows_of([Measured(find(name), "tiny", (run_one(name, Asked("tiny", 60.0, threads=1)),))])
    assert row.accounted_share is not None
    assert row.accounted_share >= 0.99
    assert row.unclassified_share is not None
    assert row.unclassified_share < 0.01, row.unclassified
    assert sum(phase.value for phase in row.phases.values()) == pytest.approx(1)
    assert row.serial is not None
    assert row.input_grad_share is not None
    assert row.weight_grad_share is not None
    assert min(row.input_grad_share.value, row.weight_grad_share.value) > 0.01
