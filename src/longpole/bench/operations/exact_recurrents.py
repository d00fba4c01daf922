"""Recurrent layers in float64: the outputs and gradients of two sequences, which do not depend on the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from longpole.bench.operations.piece import relative_error
from longpole.bench.operations.recurrence import unroll
from longpole.cost.recurrent import GATES

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKED = 2  # sequences of the batch


def output_error(kind: str, module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Of y[steps, batch, hidden], every step of two sequences."""
    with torch.no_grad():
        exact = _forward(kind, _double(module), x.detach()[:, :CHECKED].double(), [])[1]
        return relative_error(y[:, :CHECKED], exact)


def training_errors(
    kind: str, module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, dy: torch.Tensor
) -> dict[str, float]:
    """Of y = module(x), and of the gradients that autograd makes of it, for a dy that is zero but for two sequences.

    Float64 then needs those two only, and weight gradients are compared whole.
    """
    masked = torch.zeros_like(dy)
    masked[:, :CHECKED] = dy[:, :CHECKED]
    names = [name for name, _ in module.named_parameters()]
    found = torch.autograd.grad(y, [x, *module.parameters()], masked, retain_graph=True)
    exact = exact_training(kind, module, x.detach()[:, :CHECKED], dy[:, :CHECKED])
    return {
        "forward": relative_error(y.detach()[:, :CHECKED], exact["y"]),
        "input_grad": relative_error(found[0][:, :CHECKED], exact["x"]),
        "weight_grad": max(relative_error(each, exact[name]) for name, each in zip(names, found[1:], strict=True)),
    }


def exact_training(kind: str, module: torch.nn.Module, x: torch.Tensor, dy: torch.Tensor) -> dict[str, torch.Tensor]:
    """Float64 "y" = module(x), and gradients of sum(y * dy) by "x" and by the names of the module's parameters."""
    weights, x = _double(module), x.double()
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.enable_grad():
        added, y = _forward(kind, weights, x, kept)
        # The weight is asked for so that the first step's product is met too, which has nothing of the input before it.
        d_added = torch.autograd.grad(y, [added, _recurrent(weights)], dy.double(), allow_unused=True)[0]
    states, d_gates = (torch.cat(parts) for parts in zip(*kept, strict=True))
    d_weight, d_bias = d_gates.t() @ states, d_gates.sum(0)
    if "weight" in weights:
        return {"y": y.detach(), "x": d_added, "weight": d_weight, "bias": d_bias}
    flat = d_added.flatten(0, 1)
    return {
        "y": y.detach(), "x": d_added @ weights["weight_ih_l0"],
        "weight_ih_l0": flat.t() @ x.flatten(0, 1), "bias_ih_l0": flat.sum(0),
        "weight_hh_l0": d_weight, "bias_hh_l0": d_bias,
    }  # fmt: skip


def _double(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: each.detach().double() for name, each in module.named_parameters()}


def _recurrent(weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return weights["weight" if "weight" in weights else "weight_hh_l0"]


def _forward(
    kind: str, weights: Mapping[str, torch.Tensor], x: torch.Tensor, kept: list[tuple[torch.Tensor, torch.Tensor]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """What is added to the gates, [steps, batch, hidden] or that times the gates, and the states."""
    weight, bias = _recurrent(weights), weights["bias" if "weight" in weights else "bias_hh_l0"]
    added = x.clone() if "weight" in weights else x @ weights["weight_ih_l0"].t() + weights["bias_ih_l0"]
    added.requires_grad_(torch.is_grad_enabled())
    weight.requires_grad_(torch.is_grad_enabled())
    gates = GATES[kind]
    parts = [(now,) * gates if "weight" in weights else now.chunk(gates, 1) for now in added.unbind(0)]

    def product(h: torch.Tensor) -> torch.Tensor:
        return _LateProduct.apply(h, weight, bias, kept)  # pyright: ignore[reportReturnType, reportUnknownMemberType, reportUnknownVariableType]

    return added, unroll(kind, parts, product)


class _LateProduct(torch.autograd.Function):
    """h[n, hidden] -> h @ weight.t() + bias[n, gates x hidden]; the weight's gradient is left to one of all steps.

    Products of each step, added up, would read and write a matrix of the weight's size each time: most of the check.
    """

    @staticmethod
    def forward(ctx: Any, h: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, kept: Any) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(h, weight)
        ctx.kept = kept
        return torch.addmm(bias, h, weight.t())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        h, weight = ctx.saved_tensors
        ctx.kept.append((h.detach(), gradient))
        return gradient @ weight, None, None, None
