"""The serial chain of small networks, against what can be counted on paper. Counts stand beside each network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import longpole

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.analysis.serial_chain import SerialChain

pytestmark = pytest.mark.usefixtures("one_thread")

TURNS = 45  # more than the window has
HIDDEN = 8


def chain_of(turn: Callable[[], Any]) -> SerialChain:
    with longpole.record(steps=4, warmup=1) as recording:
        for _ in range(TURNS):
            turn()
    found = recording.study().serial_chain
    assert found is not None
    return found


def trained(model: nn.Module, *inputs: torch.Tensor, backwards: int = 1) -> Callable[[], None]:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    def turn() -> None:
        optimizer.zero_grad()
        for _ in range(backwards):
            model(*inputs).square().mean().backward()  # two nodes above the network: mean and pow
        optimizer.step()

    return turn


def rows(count: int = 4) -> torch.Tensor:
    return torch.randn(count, HIDDEN)


def linear() -> nn.Linear:
    return nn.Linear(HIDDEN, HIDDEN)


def waits(chain: SerialChain) -> dict[str, set[str]]:
    return {wait.layer: set(wait.after) for wait in chain.waits}


class Branches(nn.Module):
    """a, then b1 and b2 beside c, added, then d."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b1, self.b2, self.c, self.d = (linear() for _ in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        return self.d(self.b2(self.b1(x)) + self.c(x))


def test_two_branches() -> None:
    """Of 5 layers 4 are in line: a, b1, b2, d.

    Nodes in line: mean, pow, addmm of d, add, addmm of b2, b1 and a, the transposed weight of a, its AccumulateGrad:
    9. In all: mean, pow, add, and for each Linear addmm, transposed weight and two AccumulateGrad: 3 + 5 x 4 = 23.
    """
    chain = chain_of(trained(Branches(), rows()))
    assert (chain.layers, chain.of_layers) == (4, 5)
    assert (chain.nodes, chain.of_nodes) == (9, 23)
    assert waits(chain) == {"a": set(), "b1": {"a"}, "b2": {"b1"}, "c": {"a"}, "d": {"b2", "c"}}
    assert chain.path[0] == "a"
    assert chain.path[-1] == "d"


class Residual(nn.Module):
    """A stem, three blocks x + relu(linear(x)), a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = linear(), linear()
        self.blocks = nn.ModuleList(nn.Sequential(linear(), nn.ReLU()) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def test_a_residual_network_has_no_way_round_its_blocks() -> None:
    """Layers: stem, 3 x (linear, relu), head: all 8 in line, although each block can be skipped.

    Nodes in line: mean, pow, addmm of the head, 3 x (add, relu, addmm), addmm of the stem, its transposed weight,
    AccumulateGrad: 3 + 9 + 3 = 15. In all: mean, pow, 3 adds, 3 relus, 5 Linear of 4 each: 8 + 20 = 28.
    """
    chain = chain_of(trained(Residual(), rows()))
    assert (chain.layers, chain.of_layers) == (8, 8)
    assert (chain.nodes, chain.of_nodes) == (15, 28)
    assert waits(chain) == {
        "stem": set(),
        "blocks.0.0": {"stem"},
        "blocks.0.1": {"blocks.0.0"},
        "blocks.1.0": {"blocks.0.1"},  # and the stem, for which block 0 waits anyway
        "blocks.1.1": {"blocks.1.0"},
        "blocks.2.0": {"blocks.1.1"},
        "blocks.2.1": {"blocks.2.0"},
        "head": {"blocks.2.1"},
    }


class Recurrent(nn.Module):
    """h = tanh(i(x_t) + h(h)), then a head on the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.i, self.h, self.head = linear(), linear(), linear()

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        hidden = torch.zeros(sequence.shape[1], HIDDEN)
        for x in sequence:
            hidden = torch.tanh(self.i(x) + self.h(hidden))
        return self.head(hidden)


@pytest.mark.parametrize("length", [1, 5, 12])
def test_an_unrolled_recurrent_network_is_as_long_as_its_sequence(length: int) -> None:
    """Calls: `i` and `h` once a time step, the head once. In line: every `h`, then the head: `i` needs x_t alone.

    Nodes in line: mean, pow, addmm of the head, and for each time step tanh, add, addmm of `h`; then the transposed
    weight and AccumulateGrad. In all: mean, pow; the head's addmm and t; for each time step tanh, add, two addmm
    and two t; AccumulateGrad once a tensor, 6.
    """
    chain = chain_of(trained(Recurrent(), torch.randn(length, 4, HIDDEN)))
    assert (chain.layers, chain.of_layers) == (length + 1, 2 * length + 1)
    assert (chain.nodes, chain.of_nodes) == (3 + 3 * length + 2, 2 + 2 + 6 * length + 6)
    after_h = {"h", "i"} if length > 1 else set()
    assert waits(chain) == {"i": set(), "h": after_h, "head": {"h", "i"}}


def test_micro_batches_of_one_update_need_not_wait_for_each_other() -> None:
    one = chain_of(trained(Residual(), rows()))
    three = chain_of(trained(Residual(), rows(), backwards=3))
    assert (three.layers, three.of_layers) == (one.layers, 3 * one.of_layers)
    assert three.nodes == one.nodes


def test_what_follows_an_update_waits_for_it() -> None:
    """As a GAN does: one network steps, then the other, in the same turn of the loop. 1 + 2 layers in line."""
    first, second = nn.Sequential(linear()), nn.Sequential(linear(), linear())
    optimizers = [torch.optim.SGD(net.parameters(), lr=1e-3) for net in (first, second)]
    x = rows()

    def turn() -> None:
        for net, optimizer in zip((first, second), optimizers, strict=True):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()

    chain = chain_of(turn)
    assert (chain.layers, chain.of_layers) == (3, 3)
    assert chain.nodes == (2 + 1 + 2) + (2 + 2 + 2)


def test_a_loss_module_is_no_layer() -> None:
    model, loss = nn.Sequential(linear(), nn.Tanh()), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x, y = rows(), rows()

    def turn() -> None:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    chain = chain_of(turn)
    assert (chain.layers, chain.of_layers) == (2, 2)
    assert chain.nodes == 5  # mse, tanh, addmm, transposed weight, AccumulateGrad


def test_a_frozen_part_is_not_in_the_graph() -> None:
    model = Branches()
    for layer in (model.a, model.b1):
        layer.requires_grad_(False)
    chain = chain_of(trained(model, rows()))
    assert (chain.layers, chain.of_layers) == (2, 3)  # b2 or c, then d
    assert chain.unseen_ms is not None
    assert chain.unseen_ms > 0  # a and b1 run all the same


def test_gradients_of_gradients_are_on_the_chain() -> None:
    """y = w2 tanh(w1 x): backward through dy/dx waits for that, which waits for y: longer than y's own chain."""
    model = nn.Sequential(nn.Linear(1, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.linspace(0, 1, 16)[:, None].requires_grad_()

    def turn() -> None:
        optimizer.zero_grad()
        y = model(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (slope - x).square().mean().backward()
        optimizer.step()

    plain = chain_of(trained(nn.Sequential(nn.Linear(1, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1)), x.detach()))
    chain = chain_of(turn)
    assert chain.nodes > plain.nodes
    assert chain.of_layers >= 2


def test_work_is_forward_loss_and_backward_and_the_chain_is_no_longer() -> None:
    with longpole.record(steps=4, warmup=1) as recording:
        turn = trained(Recurrent(), torch.randn(6, 4, HIDDEN))
        for _ in range(TURNS):
            turn()
    study = recording.study()
    chain = study.serial_chain
    assert chain is not None
    parts = {phase.phase: phase.ms for phase in study.phases}
    assert chain.work_ms == pytest.approx(parts["forward"] + parts.get("loss", 0) + parts["backward"], rel=1e-6)
    assert 0 < (chain.time_ms or 0) < (chain.work_ms or 0)
    assert chain.forward_ms is not None
    assert chain.backward_ms is not None
    assert chain.time_ms == pytest.approx(chain.forward_ms + chain.backward_ms)
    assert (chain.parallelism or 0) > 1


def test_the_losses_stay_what_they_are() -> None:
    def losses(measured: bool) -> list[float]:
        torch.manual_seed(3)
        model = Branches()
        optimizer, x, found = torch.optim.SGD(model.parameters(), lr=1e-2), rows(), []

        def turn() -> None:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            found.append(loss.item())

        if measured:
            chain_of(turn)
        else:
            for _ in range(TURNS):
                turn()
        return found

    assert losses(measured=True) == losses(measured=False)
