"""Every use of a parameter in a forward pass: with which input, and what gradient its output got.

While watched, the functions of `torch.nn.functional` that take parameters are replaced by ones that call them and
keep a reference to the input; a hook on the output then takes the gradient that the script's own backward computes.
Nothing is computed twice, nothing is changed, and the script's modules are not touched.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from longpole.capture.patches import Patches
from longpole.convergence.noise_calls import LOSSES, Batch, Call, LossCall, batch_of
from longpole.convergence.noise_inputs import tensors

if TYPE_CHECKING:
    from collections.abc import Callable

# name in torch.nn.functional -> places of the parameters among its arguments, by position and by name
FUNCTIONS: dict[str, dict[int, str]] = {
    **{name: {1: "weight", 2: "bias"} for name in ("linear", "conv1d", "conv2d", "conv3d")},
    **{f"conv_transpose{n}d": {1: "weight", 2: "bias"} for n in (1, 2, 3)},
    "embedding": {1: "weight"},
    "layer_norm": {2: "weight", 3: "bias"},
    "rms_norm": {2: "weight"},
    "group_norm": {2: "weight", 3: "bias"},
    "batch_norm": {3: "weight", 4: "bias"},
    "prelu": {1: "weight"},
}
AUTOCAST_DEVICES = ("cpu", "cuda")
ADDMM = {0: "input", 2: "mat2"}  # torch.addmm(bias, x, weight), the way transformers' Conv1D computes


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """One call. `args` and `kwargs` are the script's own, its input and parameters among them."""

    kind: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parameters: dict[int, torch.Tensor]  # id -> leaf tensor that learns
    batch: Batch | None
    version: int  # of the input when it was used
    time_major: bool = False  # inside attention, whose rows are (time, batch)

    @property
    def mixes_examples(self) -> bool:
        """Batch normalization with the batch's own statistics."""
        if self.kind != "batch_norm":
            return False
        training = self.args[5] if len(self.args) > 5 else self.kwargs.get("training", False)
        return bool(training) or (self.args[1] if len(self.args) > 1 else self.kwargs.get("running_mean")) is None

    @property
    def input(self) -> Any:
        return given_to(self.kind, self.args, self.kwargs)


def given_to(kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The input among a call's arguments."""
    position, name = (1, "mat1") if kind == "addmm" else (0, "input")
    return args[position] if len(args) > position else kwargs.get(name)


class UseRecorder:
    """Between `start` and `stop` uses are seen; `fired` holds those whose output got a gradient, with it."""

    def __init__(self, is_other_thread: Callable[[], bool]) -> None:
        self.fired: list[tuple[Use, torch.Tensor]] = []
        self.order: dict[int, int] = {}  # id of a parameter -> its place in the forward pass
        self.roots: dict[int, nn.Module] = {}
        self.batch: Batch | None = None
        self.call: Call | None = None  # the last of a network
        self.loss: LossCall | None = None
        self._is_other_thread = is_other_thread
        self._patches = Patches()
        self._inside = False
        self._watching = False
        self._time_major = False

    def start(self) -> None:
        self.stop()
        self._watching = True
        for name, places in FUNCTIONS.items():
            if hasattr(F, name):
                self._patches.set(F, name, self._watched(name, getattr(F, name), places))
        name = "multi_head_attention_forward"
        self._patches.set(F, name, self._attention(getattr(F, name)))
        for name in LOSSES:
            self._patches.set(F, name, self._loss_call(getattr(F, name)))
        self._patches.set(torch, "addmm", self._watched("addmm", torch.addmm, ADDMM))
        self._patches.set(nn.Module, "__call__", self._root_call(nn.Module.__call__))

    def stop(self) -> None:
        self._patches.undo()
        self._watching = False
        self._inside = False
        self.fired.clear()
        self.loss = None

    def _root_call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def longpole_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if self._inside or torch.compiler.is_compiling() or self._is_other_thread():
                return function(module, *args, **kwargs)
            learns = torch.is_grad_enabled() and next(module.parameters(), None) is not None
            if learns:
                self.roots[id(module)] = module
                self.batch = batch_of((*args, *kwargs.values()))
            self._inside = True
            try:
                result = function(module, *args, **kwargs)
            finally:
                self._inside = False
            if learns:
                outputs = tuple(out.detach() for out in tensors(result))
                self.call = Call(module, args, kwargs, self.batch, outputs, _is_autocast())
            return result

        return longpole_call

    def _loss_call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def longpole_loss(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if not torch.compiler.is_compiling() and not self._is_other_thread() and _takes_hooks(result):
                self.loss = LossCall(function, args, kwargs, result)
            return result

        return longpole_loss

    def _watched(self, kind: str, function: Callable[..., Any], places: dict[int, str]) -> Callable[..., Any]:
        @functools.wraps(function)
        def longpole_use(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if not torch.compiler.is_compiling() and torch.is_grad_enabled() and not self._is_other_thread():
                self._note(kind, function, args, kwargs, _learning(args, kwargs, places), result)
            return result

        return longpole_use

    def _note(
        self,
        kind: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parameters: dict[int, torch.Tensor],
        result: Any,
    ) -> None:
        use = Use(kind, function, args, kwargs, parameters, self.batch, _version(given_to(kind, args, kwargs)),
                  self._time_major)  # fmt: skip
        if not parameters or not isinstance(use.input, torch.Tensor) or not _takes_hooks(result):
            return
        for identity in parameters:
            self.order.setdefault(identity, len(self.order))
        result.register_hook(lambda gradient: self._fire(use, gradient))

    def _attention(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def longpole_attention(*args: Any, **kwargs: Any) -> Any:
            before, self._time_major = self._time_major, True
            try:
                return function(*args, **kwargs)
            finally:
                self._time_major = before

        return longpole_attention

    def _fire(self, use: Use, gradient: torch.Tensor) -> None:
        if self._watching:
            self.fired.append((use, gradient.detach()))


def _is_autocast() -> bool:
    return any(torch.is_autocast_enabled(device) for device in AUTOCAST_DEVICES)


def _takes_hooks(result: Any) -> bool:
    return isinstance(result, torch.Tensor) and result.requires_grad and not result.is_leaf


def _version(tensor: Any) -> int:
    return tensor._version if isinstance(tensor, torch.Tensor) and not tensor.is_inference() else 0


def is_unchanged(use: Use) -> bool:
    """Whether the input still holds what it held when it was used."""
    return _version(use.input) == use.version


def _learning(args: tuple[Any, ...], kwargs: dict[str, Any], places: dict[int, str]) -> dict[int, torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    for position, name in places.items():
        value = args[position] if position < len(args) else kwargs.get(name)
        if isinstance(value, torch.Tensor) and value.is_leaf and value.requires_grad:
            found[id(value)] = value
    return found
