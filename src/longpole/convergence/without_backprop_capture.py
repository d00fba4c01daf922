"""A script's network with a batch of its own and what its loss asks of it, taken between backward and update.

The loss itself is out of reach from outside. What is within reach is its gradient with respect to the network's
outputs, which the script's own backward computes: c = dL/d(outputs). The function sum(c * outputs) has the same
gradient with respect to every parameter at this point, so slopes and costs are those of the script's own loss; where
the network returns its loss, c is 1 and the function is the loss.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from longpole.capture.patches import Patches
from longpole.capture.recorder import StopScriptError
from longpole.convergence.noise_calls import batch_of
from longpole.convergence.noise_inputs import tensors

if TYPE_CHECKING:
    from collections.abc import Callable

AFTER_UPDATES = 2  # the first ones: whatever a script sets up in its first step is there


@dataclass(slots=True)
class Captured:
    """One call of the network. `slopes[i]` is dL/d(output i), None for outputs that the loss does not use."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    random_state: torch.Tensor
    outputs: list[torch.Tensor] = field(default_factory=list[torch.Tensor])  # detached
    slopes: list[torch.Tensor | None] = field(default_factory=list["torch.Tensor | None"])
    gradients: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])  # the script's own
    calls: int = 1  # of this network before that backward
    autocast: bool = False

    @property
    def batch(self) -> int | None:
        found = batch_of((*self.args, *self.kwargs.values()))
        return found.examples if found is not None else None


class NetworkCapture:
    """`start` when torch is there. Ends the script, cleanly, when `captured` is there."""

    def __init__(self) -> None:
        self.captured: Captured | None = None
        self.updates = 0
        self.failure: str | None = None
        self._patches = Patches()
        self._handles: list[Any] = []
        self._inside = False
        self._last: Captured | None = None
        self._before: dict[str, torch.Tensor] = {}
        self._calls = 0
        self._process = os.getpid()

    def start(self) -> None:
        self._patches.set(nn.Module, "__call__", self._call(nn.Module.__call__))
        self._patches.set(torch.autograd, "backward", self._backward(torch.autograd.backward))
        self._handles = [register_optimizer_step_post_hook(self._after_step)]

    def finish(self) -> None:
        self._patches.undo()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._last = None

    @property
    def _wanted(self) -> bool:
        return self.updates >= AFTER_UPDATES and self.captured is None and os.getpid() == self._process

    def _after_step(self, _optimizer: Optimizer, *_: object) -> None:
        self.updates += 1

    def _call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def longpole_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if self._inside or not self._wanted or torch.compiler.is_compiling() or not torch.is_grad_enabled():
                return function(module, *args, **kwargs)
            self._inside = True
            state = torch.get_rng_state()
            try:
                result = function(module, *args, **kwargs)
            finally:
                self._inside = False
            if any(parameter.requires_grad for parameter in module.parameters()):
                self._note(Captured(module, args, kwargs, state), result)
            return result

        return longpole_call

    def _note(self, call: Captured, result: Any) -> None:
        """Remembers what the outputs were, and has their gradients told."""
        same = self._last is not None and self._last.module is call.module
        call.calls = self._last.calls + 1 if same and self._last is not None else 1
        call.autocast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
        for index, out in enumerate(tensors(result)):
            call.outputs.append(out.detach())
            call.slopes.append(None)
            if out.requires_grad and not out.is_leaf:
                out.register_hook(_keeps(call, index))
        self._last = call

    def _backward(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def longpole_backward(*args: Any, **kwargs: Any) -> Any:
            call = self._last
            if not self._wanted or call is None:
                return function(*args, **kwargs)
            before = {name: p.grad.clone() for name, p in call.module.named_parameters() if p.grad is not None}
            result = function(*args, **kwargs)
            if any(slope is not None for slope in call.slopes):
                self._take(call, before)
                raise StopScriptError(0)
            return result

        return longpole_backward

    def _take(self, call: Captured, before: dict[str, torch.Tensor]) -> None:
        for name, parameter in call.module.named_parameters():
            if parameter.grad is not None and not parameter.grad.is_sparse:
                had = before.get(name)
                call.gradients[name] = parameter.grad.clone() if had is None else parameter.grad - had
        self.captured = call


def _keeps(call: Captured, index: int) -> Callable[[torch.Tensor], None]:
    def hook(gradient: torch.Tensor) -> None:
        call.slopes[index] = gradient.detach().clone()

    return hook
