"""What grows by step is named with its line, and what does not is left in peace."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import longpole
from longpole.capture.growth_lines import adding_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.analysis.study import Growth

pytestmark = pytest.mark.usefixtures("one_thread")

TURNS = 80  # more than the window of `growth_of` has: it ends inside of the loop, as in a long training


class Loop:
    """A small training; `step` gives the loss and the output of one turn."""

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.history: dict[str, list[Any]] = {"loss": []}

    def step(self) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.model(torch.randn(64, 8))
        loss = out.square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss, out


def growth_of(train: Callable[[], object]) -> list[Growth]:
    with longpole.record(steps=4, warmup=1) as recording:
        train()
    return recording.study().memory.growth


def line_of(text: str) -> str:
    """Where this very text stands in this file, last."""
    lines = Path(__file__).read_text().splitlines()
    return f"{Path(__file__).name}:{max(at for at, line in enumerate(lines, 1) if line.strip() == text)}"


def test_a_list_of_losses_with_their_graphs() -> None:
    loop = Loop()

    def train() -> None:
        losses = []
        for _ in range(TURNS):
            loss, _ = loop.step()
            losses.append(loss)

    (found,) = growth_of(train)
    assert (found.line, found.where) == ("losses.append(loss)", line_of("losses.append(loss)"))
    assert found.holder == "list `losses`"
    assert found.bytes_per_step == 4  # a scalar of float32; of its graph the nodes stay, not what they had saved
    assert (found.graph_nodes or 0) > TURNS / 2
    assert found.op == "mean"
    assert "losses.append(loss)" in found.sentence


def test_a_history_in_an_attribute() -> None:
    loop = Loop()

    def train() -> None:
        for _ in range(TURNS):
            loop.history["loss"].append(loop.step()[0])

    (found,) = growth_of(train)
    assert found.where == line_of('loop.history["loss"].append(loop.step()[0])')


def test_outputs_without_a_graph() -> None:
    loop = Loop()

    def train() -> None:
        outputs = deque()
        for _ in range(TURNS):
            _, out = loop.step()
            outputs.append(out.detach())

    (found,) = growth_of(train)
    assert found.where == line_of("outputs.append(out.detach())")
    assert found.bytes_per_step == 64 * 4 * 4
    assert (found.layer, found.op) == ("2", "addmm")


def test_a_sum_that_drags_every_graph_along() -> None:
    loop = Loop()

    def train() -> None:
        total = torch.zeros(())
        for _ in range(TURNS):
            loss, _ = loop.step()
            total = total + loss

    (found,) = growth_of(train)
    assert found.where == line_of("total = total + loss")
    assert found.steps > 3


class Caching(nn.Module):
    """Keeps all that it ever made."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 16)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        self.seen.append(y)
        return y


class Remembering(nn.Module):
    """A state that goes from step to step with its graph."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(8, 16)
        self.memory = torch.zeros(64, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.cell(x, self.memory.detach())
        self.memory = self.cell(x, self.memory)
        return y


def trained(model: nn.Module) -> Callable[[], None]:
    def train() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(TURNS):
            optimizer.zero_grad()
            model(torch.randn(64, 8)).square().mean().backward()
            optimizer.step()

    return train


def test_a_list_on_a_module() -> None:
    (found,) = growth_of(trained(nn.Sequential(Caching(), nn.Linear(16, 4))))
    assert (found.holder, found.where) == ("list of Caching `seen`", line_of("self.seen.append(y)"))
    assert found.bytes_per_step == 64 * 16 * 4
    assert (found.layer, found.op) == ("0.linear", "addmm")
    assert found.graph_nodes


def test_a_hidden_state_that_is_not_detached() -> None:
    (found,) = growth_of(trained(Remembering()))
    assert found.holder == "tensor of Remembering `memory`"
    assert found.where == line_of("self.memory = self.cell(x, self.memory)")
    assert found.steps > 10
    assert (found.graph_nodes or 0) > found.steps


class Hoarder(torch.optim.SGD):
    """An optimizer that keeps every gradient it has seen."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter].setdefault("past", []).append(parameter.grad.clone())
        return super().step(closure)


def test_state_of_an_optimizer_that_piles_up() -> None:
    def train() -> None:
        model = nn.Linear(64, 8, bias=False)
        optimizer = Hoarder(model.parameters(), lr=0.01)
        for _ in range(TURNS):
            optimizer.zero_grad()
            model(torch.randn(4, 64)).square().mean().backward()
            optimizer.step()

    (found,) = growth_of(train)
    assert found.where == line_of('self.state[parameter].setdefault("past", []).append(parameter.grad.clone())')
    assert (found.bytes_per_step, found.op) == (64 * 8 * 4, "clone")


def test_state_of_optimizers_that_stays_is_no_growth() -> None:
    def train() -> None:
        model = nn.Linear(64, 8, bias=False)
        optimizer = torch.optim.Adam(model.parameters())
        x = torch.randn(16, 64)
        for _ in range(TURNS):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    assert growth_of(train) == []


def test_what_does_not_grow_is_left_in_peace() -> None:
    loop = Loop()
    average = [p.detach().clone() for p in loop.model.parameters()]

    def train() -> None:
        losses, scalars, last, best = [], [], deque(maxlen=2), None
        for step in range(TURNS):
            loss, out = loop.step()
            losses.append(loss.item())
            scalars.append(loss.detach())  # four bytes a step, and no graph
            last.append(out.detach())
            for kept, now in zip(average, loop.model.parameters(), strict=True):
                kept.lerp_(now.detach(), 0.1)
            if step % 7 == 0:
                best = {name: value.clone() for name, value in loop.model.state_dict().items()}
        assert best is not None

    assert growth_of(train) == []


def test_what_locals_gave_the_script_stays_whole() -> None:
    """Before Python 3.13 a frame has one copy of its locals, and the script may hold it."""
    loop = Loop()
    seen: dict[str, Any] = {}

    def train() -> None:
        losses = []
        settings = locals()
        for _ in range(TURNS):
            losses.append(loop.step()[0])  # noqa: PERF401 - a list of losses is what is tested
        seen.update({name: name in settings for name in ("losses", "loop")})

    growth_of(train)
    assert seen == {"losses": True, "loop": True}


# -- lines, by their text alone --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "losses.append(loss)",
        "self.losses.append(loss)",
        "losses += [loss]",
        "losses[step] = loss",
        "losses = losses + [loss]",
        "history.losses.setdefault(step, []).append(loss)",
        "losses.put_nowait(loss)",
    ],
)
def test_a_line_that_adds(statement: str) -> None:
    source = f"def train():\n    losses = []\n    print(losses)\n    for step in range(9):\n        {statement}\n"
    assert [(place.line, place.text) for place in adding_lines(source, "losses")] == [(5, statement)]


@pytest.mark.parametrize(
    "statement", ["print(losses)", "losses.sort()", "other.append(losses)", "losses = []", "x = ("]
)
def test_a_line_that_does_not_add(statement: str) -> None:
    assert adding_lines(statement, "losses") == []


def test_only_lines_of_the_function_count() -> None:
    source = "a.append(1)\ndef f():\n    a.append(2)\n"
    assert [place.line for place in adding_lines(source, "a", 2, 3)] == [3]
