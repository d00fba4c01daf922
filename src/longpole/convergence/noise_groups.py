"""The weight gradient of a part of the batch: each layer's own formula, over some of its examples only.

The gradient of a parameter is a sum over the examples that its layer saw: dW = Σ x_i dy_iᵀ for a linear layer. With
the input and the output's gradient of the whole batch at hand, the sum over a part costs that part's share of the
weight gradient, and what the parts sum to can be held against the gradient that the script got.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.convergence.noise_calls import Batch
    from longpole.convergence.noise_uses import Use

MOST_PARTS = 8  # of one batch; more of them make the estimate sharper and the memory traffic larger


def parts_of(examples: int) -> list[range]:
    """The batch's examples in up to MOST_PARTS runs whose sizes differ by one at most."""
    count = min(MOST_PARTS, examples)
    bounds = [examples * part // count for part in range(count + 1)]
    return [range(first, last) for first, last in pairwise(bounds)]


def example_dimension(use: Use) -> tuple[int, int] | None:
    """Which dimension of the input runs over examples, and how many of its places one example takes.

    None where the input does not run over the batch: positions, which are the same for every example, or a layout
    that cannot be told from shapes.
    """
    batch, given = use.batch, use.input
    if batch is None or given.dim() == 0 or batch.examples < 1:
        return None
    if _is_flat_by_time(use):
        return 1, 1
    if use.time_major and given.dim() >= 3:
        return (1, 1) if given.shape[1] == batch.examples else None
    if given.shape[0] == batch.examples:
        return None if _are_positions(use, given) else (0, 1)
    if given.dim() >= 3 and given.shape[1] == batch.examples:
        return 1, 1
    rows = int(given.shape[0])
    is_flat = rows in _flat_sizes(batch) or (given.dim() >= 3 and rows % batch.examples == 0)
    return (0, rows // batch.examples) if is_flat and rows > batch.examples else None


def _flat_sizes(batch: Batch) -> set[int]:
    """Examples times the sizes that follow: (batch, time, ...) is often flattened to (batch * time, ...)."""
    sizes, product = set[int](), 1
    for size in batch.shape:
        product *= size
        sizes.add(product)
    return sizes


def _are_positions(use: Use, given: torch.Tensor) -> bool:
    """0, 1, 2, ... looked up in a table: a place in the text and no example, though there are as many."""
    if use.kind != "embedding" or given.dim() != 1 or use.batch is None or len(use.batch.shape) < 2:
        return False
    return bool((given == torch.arange(len(given), device=given.device)).all())


def part_gradients(use: Use, gradient: torch.Tensor, parts: Sequence[range]) -> list[dict[int, torch.Tensor]] | None:
    """For each part, the sum over its examples of every parameter's gradient, in float32, by the parameter's id.

    None where the examples cannot be told apart. Raises what torch raises where a shape is not as expected.
    """
    where = example_dimension(use)
    if where is None:
        return None
    dimension, places = where
    given, whole = _by_time(use, use.input.detach()), _by_time(use, gradient.detach())
    if whole.shape[dimension] != given.shape[dimension]:
        return None
    formula = _formula(use)
    found: list[dict[int, torch.Tensor]] = []
    for part in parts:
        first, length = part.start * places, len(part) * places
        found.append(formula(use, given.narrow(dimension, first, length), whole.narrow(dimension, first, length)))
    return found


def _by_time(use: Use, tensor: torch.Tensor) -> torch.Tensor:
    """Rows of (time, batch) flattened, as attention has them before its last layer, with both dimensions again."""
    if use.batch is None or not _is_flat_by_time(use):
        return tensor
    return tensor.reshape(-1, use.batch.examples, *tensor.shape[1:])


def _is_flat_by_time(use: Use) -> bool:
    return (
        use.time_major
        and use.batch is not None
        and use.input.dim() == 2
        and (use.input.shape[0] % use.batch.examples == 0)
    )


def _formula(use: Use) -> Any:
    if use.kind == "batch_norm":
        return _BatchNorm(use)
    return {"linear": _linear, "embedding": _embedding}.get(use.kind, _again)


def _linear(use: Use, given: torch.Tensor, gradient: torch.Tensor) -> dict[int, torch.Tensor]:
    """x (..., in) and dy (..., out): dW = dyᵀ x summed over all leading places, db = Σ dy."""
    rows = gradient.reshape(-1, gradient.shape[-1]).float()
    weight, bias = _argument(use, 1, "weight"), _argument(use, 2, "bias")
    found: dict[int, torch.Tensor] = {}
    if id(weight) in use.parameters:
        found[id(weight)] = rows.T @ given.reshape(-1, given.shape[-1]).float()
    if id(bias) in use.parameters:
        found[id(bias)] = rows.sum(0)
    return found


def _embedding(use: Use, given: torch.Tensor, gradient: torch.Tensor) -> dict[int, torch.Tensor]:
    """Indices (...) and dy (..., width): each row of the table gets the sum of the dy of its places."""
    weight = _argument(use, 1, "weight")
    padding = _argument(use, 2, "padding_idx")
    indices, rows = given.reshape(-1), gradient.reshape(-1, gradient.shape[-1]).float()
    found = torch.zeros(weight.shape, dtype=torch.float32, device=rows.device).index_add_(0, indices, rows)
    if padding is not None:
        found[padding] = 0
    return {id(weight): found}


class _BatchNorm:
    """x (N, C, ...): dweight = Σ dy (x - mean) / std and dbias = Σ dy, with the statistics of the whole batch."""

    def __init__(self, use: Use) -> None:
        given = use.input.detach().float()
        axes = [axis for axis in range(given.dim()) if axis != 1]
        mean, variance = _argument(use, 1, "running_mean"), _argument(use, 2, "running_var")
        if _argument(use, 5, "training") or mean is None:
            variance, mean = torch.var_mean(given, axes, correction=0)
        epsilon = _argument(use, 7, "eps")
        self._shape = [-1 if axis == 1 else 1 for axis in range(given.dim())]
        self._mean = mean.detach().float().view(self._shape)
        self._scale = (variance.detach().float() + (1e-5 if epsilon is None else epsilon)).rsqrt().view(self._shape)

    def __call__(self, use: Use, given: torch.Tensor, gradient: torch.Tensor) -> dict[int, torch.Tensor]:
        axes = [axis for axis in range(given.dim()) if axis != 1]
        gradient = gradient.float()
        weight, bias = _argument(use, 3, "weight"), _argument(use, 4, "bias")
        found: dict[int, torch.Tensor] = {}
        if id(weight) in use.parameters:
            found[id(weight)] = (gradient * (given.float() - self._mean) * self._scale).sum(axes)
        if id(bias) in use.parameters:
            found[id(bias)] = gradient.sum(axes)
        return found


def _again(use: Use, given: torch.Tensor, gradient: torch.Tensor) -> dict[int, torch.Tensor]:
    """Any function that treats examples apart: called again on these examples, and autograd asked for dW only."""
    leaves = {identity: tensor.detach().float().requires_grad_() for identity, tensor in use.parameters.items()}

    def replaced(value: Any) -> Any:
        if value is use.input:
            return given.float()
        return leaves.get(id(value), value.float() if _is_floating(value) else value)

    device = given.device.type
    with torch.enable_grad(), torch.autocast(device, enabled=False):
        out = use.function(
            *(replaced(value) for value in use.args), **{name: replaced(value) for name, value in use.kwargs.items()}
        )
        grads = torch.autograd.grad(out, list(leaves.values()), gradient.float())
    return dict(zip(leaves, grads, strict=True))


def _is_floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _argument(use: Use, position: int, name: str) -> Any:
    return use.args[position] if position < len(use.args) else use.kwargs.get(name)
