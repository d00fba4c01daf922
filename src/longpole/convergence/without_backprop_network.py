"""A captured network as a function of its parameters: its value, its gradient, and its slope in a direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from longpole.convergence.noise_inputs import tensors
from longpole.convergence.without_backprop_outputs import direct_slopes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from longpole.convergence.without_backprop_capture import Captured

Direction = dict[str, torch.Tensor]


class Network:
    """f(parameters) = sum over outputs of c * output, dropout drawn the same way each time.

    A Direction has a tensor for every parameter that learns, by its name and of its shape.
    """

    def __init__(self, call: Captured) -> None:
        self.call = call
        self.parameters: Direction = {
            name: parameter.detach() for name, parameter in call.module.named_parameters() if parameter.requires_grad
        }
        self.size = sum(parameter.numel() for parameter in self.parameters.values())
        self._slopes: list[torch.Tensor | None] = list(call.slopes)
        with torch.enable_grad():
            leaves = {name: value.detach().requires_grad_() for name, value in self.parameters.items()}
            self._slopes = direct_slopes(self.outputs(leaves), call.slopes)

    @property
    def returns_its_loss(self) -> bool:
        """Whether what is differentiated is an output of the network itself."""
        used = [slope for slope in self._slopes if slope is not None]
        return len(used) == 1 and used[0].numel() == 1 and float(used[0]) == 1.0

    def outputs(self, parameters: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        torch.set_rng_state(self.call.random_state)
        return tensors(functional_call(self.call.module, dict(parameters), self.call.args, self.call.kwargs))

    def loss(self, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
        total: torch.Tensor | None = None
        for out, slope in zip(self.outputs(parameters), self._slopes, strict=True):
            if slope is not None:
                term = (out * slope).sum()
                total = term if total is None else total + term
        assert total is not None
        return total

    def value(self) -> float:
        with torch.no_grad():
            return float(self.loss(self.parameters))

    def gradient(self) -> Direction:
        """By reverse mode, all of it at once. Zeros for parameters that the loss does not reach."""
        with torch.enable_grad():
            leaves = {name: value.requires_grad_() for name, value in _detached(self.parameters).items()}
            grads = torch.autograd.grad(self.loss(leaves), list(leaves.values()), allow_unused=True)
        return {
            name: torch.zeros_like(value) if grad is None else grad  # pyright: ignore[reportUnnecessaryComparison]
            for (name, value), grad in zip(leaves.items(), grads, strict=True)
        }

    def slope(self, direction: Direction) -> float:
        """By forward mode: the derivative along a direction, in one pass, with nothing kept.

        Raises NotImplementedError or RuntimeError where an operation of the network has no forward mode in torch.
        Attention runs as plain matmuls: torch's fused kernels have none.
        """
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            duals = {
                name: forward_ad.make_dual(value, direction[name].to(value.dtype))
                for name, value in self.parameters.items()
            }
            tangent = forward_ad.unpack_dual(self.loss(duals)).tangent
        return 0.0 if tangent is None else float(tangent)

    def difference(self, direction: Direction, epsilon: float) -> float:
        """By two losses, one on either side: (f(p + e d) - f(p - e d)) / 2e."""
        with torch.no_grad():
            ahead = self.loss({name: value + epsilon * direction[name] for name, value in self.parameters.items()})
            behind = self.loss({name: value - epsilon * direction[name] for name, value in self.parameters.items()})
        return float(ahead - behind) / (2 * epsilon)

    def random_direction(self, generator: torch.Generator) -> Direction:
        """Independent standard normal numbers; the estimate slope * direction then has the gradient as its mean."""
        return {
            name: torch.randn(value.shape, generator=generator, dtype=torch.float32).to(value.device)
            for name, value in self.parameters.items()
        }

    def element(self, name: str, index: int) -> Direction:
        """The direction along one parameter's one element."""
        found = {other: torch.zeros_like(value) for other, value in self.parameters.items()}
        found[name].view(-1)[index] = 1
        return found


def _detached(parameters: Direction) -> Direction:
    return {name: value.detach() for name, value in parameters.items()}


def dot(one: Mapping[str, torch.Tensor], two: Mapping[str, torch.Tensor]) -> float:
    return sum(float((value.double() * two[name].double()).sum()) for name, value in one.items())


def cosine(one: Mapping[str, torch.Tensor], two: Mapping[str, torch.Tensor]) -> float | None:
    """None where either is nothing but zeros."""
    size = (dot(one, one) * dot(two, two)) ** 0.5
    return dot(one, two) / size if size else None
