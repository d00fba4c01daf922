"""Watching changes nothing: values, lifetimes and errors are those of a run that nobody watches."""

from __future__ import annotations

import gc
import re
import weakref
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from longpole.capture import internals
from longpole.capture.saved import SavedLog
from longpole.capture.saved_hooks import WatchingHooks, hook_stack
from longpole.capture.storages import StorageLives
from longpole.trace.clock import monotonic_ns
from memory.nets import watch

if TYPE_CHECKING:
    from collections.abc import Callable


def log() -> SavedLog:
    return SavedLog(StorageLives(monotonic_ns, "cpu"), monotonic_ns, lambda: 0)


def hooked(turn: Callable[[], object]) -> object:
    hooks = WatchingHooks(log())
    hooks.start()
    try:
        return turn()
    finally:
        hooks.stop()


def error_of(turn: Callable[[], object]) -> str:
    torch.manual_seed(0)
    with pytest.raises(RuntimeError) as found:
        turn()
    return str(found.value)


def output_changed() -> None:
    y = torch.randn(3, 3, requires_grad=True).exp()
    y.add_(1)
    y.sum().backward()


def input_changed() -> None:
    x = torch.randn(3, 3, requires_grad=True)
    y = x * 2
    z = y * x
    y.add_(1)
    z.sum().backward()


def leaf_changed() -> None:
    x, y = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3)
    z = y * x
    y.add_(1)
    z.sum().backward()


def view_changed() -> None:
    x = torch.randn(3, 3, requires_grad=True)
    y = x * 2
    z = y * x
    y[0].add_(1)
    z.sum().backward()


def overwritten_in_place() -> None:
    torch.randn(3, 3, requires_grad=True).relu().exp().sqrt_().sum().backward()


def backward_twice() -> None:
    total = torch.randn(3, requires_grad=True).exp().sum()
    total.backward()
    total.backward()


FAULTS = [output_changed, input_changed, leaf_changed, view_changed, overwritten_in_place, backward_twice]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_modified_variable_is_an_error_in_the_same_words(fault: Callable[[], None]) -> None:
    assert error_of(lambda: hooked(fault)) == error_of(fault)


def test_a_weight_modified_before_backward_is_an_error_too() -> None:
    def fault() -> None:
        linear = nn.Linear(3, 3)
        out = linear(linear(torch.randn(2, 3)))
        with torch.no_grad():
            linear.weight.add_(1)
        out.sum().backward()

    start = "one of the variables needed for gradient computation has been modified by an inplace operation"
    assert error_of(lambda: hooked(fault)).startswith(start)
    assert "is at version 2; expected version 1" in error_of(lambda: hooked(fault))


def test_an_output_that_was_saved_is_freed_without_backward() -> None:
    """exp saves its own output: a hook that returned it would make a circle that no collector sees."""

    def turn() -> weakref.ref[torch.UntypedStorage]:
        y = torch.randn(3, requires_grad=True).exp()
        return weakref.ref(y.untyped_storage())

    hooks = WatchingHooks(log())
    hooks.start()
    try:
        gc.disable()
        assert turn()() is None
    finally:
        gc.enable()
        hooks.stop()


def test_gradients_are_the_same_to_the_bit() -> None:
    def turn() -> list[torch.Tensor]:
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(16, 4)
        )
        x = torch.randn(6, 8)
        nn.functional.cross_entropy(model(x), torch.arange(6) % 4).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    bare, seen = turn(), hooked(turn)
    assert isinstance(seen, list)
    assert all(torch.equal(one, other) for one, other in zip(bare, seen, strict=True))


def test_a_second_gradient_goes_through() -> None:
    def turn() -> torch.Tensor:
        x = torch.tensor([0.5, 2.0], requires_grad=True)
        (first,) = torch.autograd.grad((x.exp() * x).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
        return second

    seen = hooked(turn)
    assert isinstance(seen, torch.Tensor)
    assert torch.equal(turn(), seen)


@pytest.fixture(params=["torch tells what lies on top", "it does not"])
def tells(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to know the stack of hooks: torch's own, and that for torch 2.4."""
    if request.param == "it does not":
        monkeypatch.setattr(internals, "top_saved_hooks", None)


def no_hooks() -> bool:
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(1) or tensor, lambda tensor: tensor):
        pass
    torch.ones(2, requires_grad=True).exp()
    return not saved and hook_stack.top() is None


@pytest.mark.usefixtures("tells")
def test_functional_transforms_run_and_hooks_come_back() -> None:
    found = log()
    hooks = WatchingHooks(found)
    hooks.start()
    try:
        gradient = torch.func.grad(lambda x: (x * x).sum())(torch.ones(3))
        assert torch.equal(gradient, torch.full((3,), 2.0))
        assert found.saw_transform
        before = len(found.storage)
        (torch.ones(2, requires_grad=True).exp()).sum().backward()
        assert len(found.storage) == before + 1
    finally:
        hooks.stop()
    assert no_hooks()


@pytest.mark.usefixtures("tells")
def test_hooks_of_the_scripts_own_lie_on_top_and_stay() -> None:
    seen: list[torch.Tensor] = []
    hooks = WatchingHooks(log())
    hooks.start()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t) or t, lambda t: t):
        hooks.stop()
        torch.ones(2, requires_grad=True).exp()
    assert len(seen) == 1
    assert no_hooks()


def test_times_run_from_saved_to_used_to_freed() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    saved = watch(model, lambda: model(torch.randn(2, 4)).sum().backward()).memory.saved
    assert saved.storage
    for start, used, freed in zip(saved.saved_ns, saved.used_ns, saved.freed_ns, strict=True):
        assert 0 <= start <= used <= freed
    # The last layer's input is saved last and used first.
    inputs = [row for row, op in enumerate(saved.op) if op == "addmm"]
    assert saved.used_ns[inputs[-1]] < saved.used_ns[inputs[0]]


def test_what_is_kept_after_the_step_can_still_be_used() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    kept: list[torch.Tensor] = []
    found = watch(model, lambda: kept.append(model(torch.randn(2, 4)).sum()))
    assert all(freed > 1 << 61 for freed in found.memory.saved.freed_ns)
    kept[0].backward()
    assert model[0].weight.grad is not None


def test_the_words_of_the_error_are_torchs() -> None:
    assert re.search(r"which is output 0 of Exp\w*, is at version 1", error_of(output_changed))
