"""Checkpointing from outside: bit for bit the same training, and a plain refusal where it cannot be."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from longpole.apply.checkpoint import Checkpoints, NotAppliedError, checkpoint_layers
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

STEPS = 4


@pytest.fixture
def checkpoints() -> Iterator[Callable[..., Checkpoints]]:
    made: list[Checkpoints] = []

    def make(*names: str) -> Checkpoints:
        made.append(checkpoint_layers(names))
        return made[-1]

    yield make
    for one in reversed(made):
        one.remove()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.mlp = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16), nn.Dropout(0.2))

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1, is_causal=True)
        x = x + scale * self.proj(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(x)


class Gpt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(16, 16), nn.Linear(16, 1)
        self.blocks = nn.ModuleList(Attention() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed((x[:, :8].abs() * 4).long().clamp(max=15))
        for block in self.blocks:
            h = block(h, scale=0.5)
        return self.head(h)


class Conv(nn.Module):
    """Batch norms learn their statistics in forward; the ReLU writes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(self.block(1 if at == 0 else 4) for at in range(3)))
        self.head = nn.Linear(4 * 16, 1)

    def block(self, channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(x.unflatten(1, (1, 4, 4))).flatten(1))


class Odd(nn.Module):
    """Dicts in and tuples out, Python's and numpy's chance, a layer used twice, a buffer that forward reads."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("table", torch.linspace(0.5, 1.5, 16))
        self.shared = nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16))

    def forward(self, given: dict[str, Any], log: list[str]) -> tuple[dict[str, torch.Tensor], str, None]:
        log.append("called")
        self.seen += 1
        x = given["x"] * (0.5 + random.random()) * (0.5 + np.random.rand()) / self.seen
        x = torch.tanh(self.shared(x)) * self.table
        return {"x": torch.tanh(self.shared(x))}, "kept", None


class Chance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.odd = nn.ModuleDict({"a": Odd(), "b": Odd()})
        self.head = nn.Linear(16, 1)
        self.log: list[str] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for odd in self.odd.values():
            found, word, nothing = odd({"x": x}, log=self.log)
            assert (word, nothing) == ("kept", None)
            x = found["x"]
        return self.head(x)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 8, batch_first=True, num_layers=2, dropout=0.3), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, (hidden, _) = self.lstm(x.unflatten(1, (4, 4)))
        return self.head(out[:, -1] + hidden[-1])


def half(x: torch.Tensor, model: nn.Module) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return model(x).float()


def whole(x: torch.Tensor, model: nn.Module) -> torch.Tensor:
    return model(x)


def mlp() -> nn.Module:
    blocks = [nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Dropout(0.3)) for _ in range(3)]
    return nn.Sequential(*blocks, nn.Linear(16, 1))


def train(make: Callable[[], nn.Module], run: Callable[..., torch.Tensor] = whole) -> tuple[list[Any], nn.Module]:
    """Losses of some steps with an evaluation between them, and all that a training leaves behind."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found: list[Any] = []
    for _ in range(STEPS):
        x = torch.randn(6, 16)
        optimizer.zero_grad()
        loss = run(x, model).square().mean()
        loss.backward()
        found.append(loss.item())
        optimizer.step()
        model.eval()
        with torch.no_grad():
            found.append(run(x, model).sum().item())
        model.train()
    found += [value.tolist() for value in model.state_dict().values()]
    return [*found, torch.rand(1).item(), random.random(), np.random.rand()], model


@pytest.mark.parametrize(
    ("make", "names", "run"),
    [
        (mlp, ["0-2"], whole),
        (mlp, ["3"], whole),
        (Gpt, ["blocks.*"], whole),
        (Gpt, ["blocks.*"], half),
        (Gpt, ["**.mlp", "embed"], whole),
        (Gpt, ["blocks"], whole),
        (Conv, ["blocks.0-1"], whole),
        (Conv, ["blocks"], whole),
        (Chance, ["odd.a,odd.b"], whole),
        (Chance, ["odd.*.shared"], whole),
        (Recurrent, ["lstm"], whole),
        (Gpt, ["Gpt"], whole),
    ],
)
def test_training_is_the_same_to_the_bit(
    checkpoints: Callable[..., Checkpoints], make: Any, names: list[str], run: Any
) -> None:
    plain, _ = train(make, run)
    made = checkpoints(*names)
    again, _ = train(make, run)
    assert again == plain
    assert made.unmet() is None


def test_what_a_checkpointed_layer_computes_inside_is_not_kept(checkpoints: Callable[..., Checkpoints]) -> None:
    """Three blocks of Linear, ReLU, Dropout keep their inputs alone: 3 x (6, 16) floats, and the head's input."""
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter) and not isinstance(tensor._base, nn.Parameter):
            kept.append(tensor.nbytes)
        return tensor

    checkpoints("0-2")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        mlp()(torch.randn(6, 16)).sum().backward()
    assert sorted(kept) == [6 * 16 * 4] * 4


def test_a_layer_is_called_once_more_in_backward_and_only_in_training(checkpoints: Callable[..., Checkpoints]) -> None:
    checkpoints("odd.a")
    _, model = train(Chance)
    assert isinstance(model, Chance)
    # a: in forward and in backward, whose list is a copy; b: in forward; both in evaluation
    assert model.log == ["called"] * (2 * STEPS + 2 * STEPS)


def test_without_gradients_or_in_evaluation_nothing_is_computed_again(checkpoints: Callable[..., Checkpoints]) -> None:
    made = checkpoints("0")
    model = mlp()
    with torch.no_grad():
        model(torch.randn(2, 16))
    model.eval()
    model(torch.randn(2, 16)).sum().backward()
    assert "never called in training mode" in (made.unmet() or "")
    model.train()
    model(torch.randn(2, 16)).sum().backward()
    assert made.unmet() is None


@pytest.mark.parametrize(("name", "offered"), [("3.weight", "there are"), ("0.9", "0.0"), ("nothing", "0.1")])
def test_a_name_that_fits_nothing_ends_the_script_at_its_first_update(
    checkpoints: Callable[..., Checkpoints], name: str, offered: str
) -> None:
    made = checkpoints(name)
    with pytest.raises(NotAppliedError) as stopped:
        train(mlp)
    assert stopped.value.code == 2
    assert f"--checkpoint {name}: no layer has this name" in (made.unmet() or "")
    assert offered in (made.unmet() or "")


def test_a_network_that_is_not_called_yet_is_waited_for(checkpoints: Callable[..., Checkpoints]) -> None:
    made = checkpoints("lstm")
    later = Recurrent()
    train(mlp)
    assert made.unmet() is not None
    later(torch.randn(2, 16)).sum().backward()
    assert made.unmet() is None


def test_a_name_inside_of_another_that_was_named_is_met(checkpoints: Callable[..., Checkpoints]) -> None:
    made = checkpoints("blocks.1", "blocks.1.mlp")
    train(Gpt)
    assert made.unmet() is None


def test_a_layer_that_writes_into_its_input_is_refused(checkpoints: Callable[..., Checkpoints]) -> None:
    """x + 1 in place would be x + 2 the second time."""

    class Plus(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.add_(1).exp()

    made = checkpoints("1")
    with pytest.raises(NotAppliedError):
        train(lambda: nn.Sequential(nn.Linear(16, 16), Plus(), nn.Linear(16, 1)))
    assert "writes into its own input" in (made.unmet() or "")


def test_a_compiled_layer_is_refused(checkpoints: Callable[..., Checkpoints]) -> None:
    made = checkpoints("0-1")
    model = mlp()
    model.compile(backend="eager")
    with pytest.raises(NotAppliedError):
        model(torch.randn(2, 16))
    assert "--checkpoint 0: is compiled" in (made.unmet() or "")


def test_a_compiled_network_beside_it_compiles_whole(checkpoints: Callable[..., Checkpoints]) -> None:
    checkpoints("blocks.*")
    other = torch.compile(mlp().eval(), backend="eager", fullgraph=True)
    assert other(torch.ones(2, 16)).shape == (2, 1)


def test_a_transform_of_functions_is_refused(checkpoints: Callable[..., Checkpoints]) -> None:
    made = checkpoints("0")
    model = mlp()
    weights = dict(model.named_parameters())
    with pytest.raises(NotAppliedError):
        torch.func.grad(lambda w: torch.func.functional_call(model, w, torch.ones(2, 16)).sum())(weights)
    assert "torch.func" in (made.unmet() or "")


def test_two_networks_of_a_class_are_told_apart(checkpoints: Callable[..., Checkpoints]) -> None:
    made = checkpoints("Recurrent#2.lstm")
    counts = [count_saved(model) for model in (Recurrent(), Recurrent())]
    assert made.unmet() is None
    assert counts[1] < counts[0]


def count_saved(model: nn.Module) -> int:
    """Tensors that hooks round the whole forward see: what a checkpointed layer saves inside is not among them."""
    seen: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (seen.append(1), t)[1], lambda t: t):
        model(torch.randn(2, 16))
    return len(seen)


def test_backward_may_come_twice(checkpoints: Callable[..., Checkpoints]) -> None:
    def gradients() -> list[Any]:
        torch.manual_seed(0)
        model = Conv()
        loss = model(torch.randn(4, 16)).square().mean()
        loss.backward(retain_graph=True)
        loss.backward()
        return [p.grad.tolist() for p in model.parameters() if p.grad is not None] + [
            b.tolist() for b in model.buffers()
        ]

    plain = gradients()
    checkpoints("blocks.*")
    assert gradients() == plain


def test_a_network_made_later_is_checkpointed_too(checkpoints: Callable[..., Checkpoints]) -> None:
    checkpoints("lstm")
    first, second = Recurrent(), Recurrent()
    assert count_saved(first) == count_saved(second)
    del first
    assert count_saved(Recurrent()) == count_saved(second)


@pytest.mark.parametrize("name", ["", "a..b", "3-1", "x,,y", ".".join("a" * 65)])
def test_what_is_no_name_is_refused_before_anything_runs(name: str) -> None:
    with pytest.raises(LongpoleError, match="--checkpoint"):
        checkpoint_layers([name])


@pytest.fixture(autouse=True)
def _nothing_stays() -> Generator[None]:
    before = nn.Module.__call__
    yield
    assert nn.Module.__call__ is before
