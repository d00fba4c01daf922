"""A part of the batch has the gradient that its own examples' loss would give, for every kind of layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from longpole.convergence.noise_groups import parts_of
from longpole.convergence.noise_split import split, squared
from longpole.convergence.noise_uses import UseRecorder

BATCH = 12


class Tokens(nn.Module):
    """Looks up tokens and positions, and flattens (batch, time) to one dimension before its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 6, padding_idx=0)
        self.places = nn.Embedding(12, 6)
        self.norm = nn.LayerNorm(6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        return self.last(self.norm(x).flatten(0, 1))


class Conv1D(nn.Module):
    """As transformers writes it: addmm with the weight on the right."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))
        self.bias = nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x, self.weight)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 6)
        self.head = nn.Linear(6, 20, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.tokens(x)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def pictures() -> torch.Tensor:
    return torch.randn(BATCH, 4, 6, 6)


NETWORKS: dict[str, tuple[Any, Any]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), lambda: torch.randn(BATCH, 6)),
    "linear over time": (lambda: nn.Linear(6, 5), lambda: torch.randn(BATCH, 7, 6)),
    "conv": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, padding="same", groups=2), nn.ReLU(inplace=True), nn.Conv2d(6, 2, 3)),
        pictures,
    ),
    "conv transpose": (lambda: nn.ConvTranspose2d(4, 3, 2, stride=2), pictures),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.PReLU(4)), pictures),
    "conv1d, layer norm": (
        lambda: nn.Sequential(nn.Conv1d(4, 6, 3, padding=1), nn.LayerNorm(9)),
        lambda: torch.randn(BATCH, 4, 9),
    ),
    "batch norm in evaluation": (lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).eval(), pictures),
    "tokens": (Tokens, lambda: torch.randint(0, 20, (BATCH, 5))),
    "addmm": (Conv1D, lambda: torch.randn(BATCH, 6)),
    "tied": (Tied, lambda: torch.randint(0, 20, (BATCH, 5))),
    "attention": (Attention, lambda: torch.randn(BATCH, 7, 6)),
}


def loss_of(out: torch.Tensor) -> torch.Tensor:
    return out.square().mean() + out.sin().mean()


def gradients(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss_of(model(x)), list(model.parameters())))


def watched(model: nn.Module, x: torch.Tensor) -> tuple[dict[int, Any], dict[int, str]]:
    recorder = UseRecorder(lambda: False)
    recorder.start()
    try:
        loss_of(model(x)).backward()
        deltas = {id(p): p.grad for p in model.parameters() if p.grad is not None}
        return split(recorder.fired, deltas, recorder.batch.examples if recorder.batch else None)
    finally:
        recorder.stop()


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_have_the_gradients_of_their_own_examples(name: str) -> None:
    torch.manual_seed(3)
    make, batch = NETWORKS[name]
    model, x = make(), batch()
    found, reasons = watched(model, x)
    positions = {id(p) for module in model.modules() for n, p in module.named_parameters() if n.startswith("places")}
    assert set(reasons) == positions
    whole = gradients(model, x)
    parts = [gradients(model, x[part.start : part.stop]) for part in parts_of(BATCH)]
    for index, parameter in enumerate(model.parameters()):
        if id(parameter) in positions:
            continue
        own = found[id(parameter)]
        assert own.examples == BATCH
        assert own.whole == pytest.approx(squared(whole[index]), rel=1e-3, abs=1e-9)
        expected = [squared(part[index]) for part in parts]
        assert list(own.squared) == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_positions_are_no_examples_though_there_are_as_many() -> None:
    torch.manual_seed(0)
    model = Tokens()
    _, reasons = watched(model, torch.randint(0, 20, (BATCH, 12)))
    assert list(reasons) == [id(model.places.weight)]


def test_a_weight_that_is_also_used_in_an_unseen_way_is_not_covered() -> None:
    torch.manual_seed(0)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) + x @ self.layer.weight

    found, reasons = watched(Both(), torch.randn(BATCH, 6))
    assert not found
    assert list(reasons.values()) == ["only part of its gradient comes from calls that can be watched"]


def test_a_batch_of_one_cannot_be_divided() -> None:
    found, reasons = watched(nn.Linear(6, 2), torch.randn(1, 6))
    assert not found
    assert set(reasons.values()) == {"a batch of one example cannot be divided"}


def test_parts_are_all_of_the_batch_once() -> None:
    for examples in range(2, 40):
        parts = parts_of(examples)
        assert [one for part in parts for one in part] == list(range(examples))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert len(parts) == min(8, examples)


def test_nothing_is_left_in_torch_after_watching() -> None:
    before = F.linear, F.cross_entropy, torch.addmm, nn.Module.__call__
    recorder = UseRecorder(lambda: False)
    recorder.start()
    assert F.linear is not before[0]
    recorder.stop()
    assert before == (F.linear, F.cross_entropy, torch.addmm, nn.Module.__call__)
