"""Recurrent layers in true training mode, by DeepBench's definition and as whole layers.

DeepBench measures cuDNN with "skip input": the layer's input is added to the gates as it is, so that only the
recurrent product counts. `recurrent` pieces do that, step by step in torch; `layer` pieces are `nn.RNN` (ReLU),
`nn.LSTM`, `nn.GRU` with their input product. Forward keeps what backward needs, as training does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from longpole.bench.operations.piece import Piece, Where, relative_error, tolerance
from longpole.cost.recurrent import GATES, deepbench_flops, layer_flops

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.bench.suites import Size

_CHECKED = 2  # sequences of the batch: they do not depend on one another


def rnn(size: Size, where: Where) -> list[Piece]:
    """Both definitions; forward alone, without keeping anything, for suites of inference."""
    kind = size.row["type"]
    hidden, batch, steps = (size.number(name) for name in ("hidden", "batch", "timesteps"))
    x = where.random(steps, batch, hidden, scale=0.5)
    training = "inference" not in size.suite
    bytes_moved = float(where.bytes_each * (2 * steps * batch * hidden + GATES[kind] * hidden * hidden))
    found: list[Piece] = []
    for name, module, flops in (
        ("recurrent", Recurrent(kind, hidden, where), deepbench_flops(kind, hidden, batch, steps)),
        ("layer", _layer(kind, hidden, where), layer_flops(kind, hidden, hidden, batch, steps)),
    ):
        found += _pieces(name, module, x, where, (flops, bytes_moved), training)
    return found


class Recurrent(torch.nn.Module):
    """The recurrence alone: `x` is added to the gates without a product (cuDNN's CUDNN_SKIP_INPUT)."""

    def __init__(self, kind: str, hidden: int, where: Where) -> None:
        super().__init__()
        self.kind = kind
        weight = where.random(GATES[kind] * hidden, hidden, scale=hidden**-0.5)
        self.weight = torch.nn.Parameter(weight)
        self.bias = torch.nn.Parameter(torch.zeros(GATES[kind] * hidden, dtype=where.dtype, device=where.device))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        """x[steps, batch, hidden] -> y of the same shape."""
        h = torch.zeros_like(x[0])
        cell = torch.zeros_like(h)
        outputs: list[torch.Tensor] = []
        for now in x.unbind(0):
            gates = torch.addmm(self.bias, h, self.weight.t())
            h, cell = _STEPS[self.kind](now, h, cell, gates)
            outputs.append(h)
        return torch.stack(outputs), None


def _vanilla(now: torch.Tensor, _: torch.Tensor, cell: torch.Tensor, gates: torch.Tensor) -> tuple[Any, Any]:
    return torch.relu(gates + now), cell


def _lstm(now: torch.Tensor, _: torch.Tensor, cell: torch.Tensor, gates: torch.Tensor) -> tuple[Any, Any]:
    i, f, g, o = (part + now for part in gates.chunk(4, 1))
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def _gru(now: torch.Tensor, h: torch.Tensor, cell: torch.Tensor, gates: torch.Tensor) -> tuple[Any, Any]:
    r, z, n = gates.chunk(3, 1)
    reset, update = torch.sigmoid(r + now), torch.sigmoid(z + now)
    new = torch.tanh(now + reset * n)
    return new + update * (h - new), cell


_STEPS = {"vanilla": _vanilla, "lstm": _lstm, "gru": _gru}


def _layer(kind: str, hidden: int, where: Where) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(where.seed)
        if kind == "vanilla":
            module: torch.nn.Module = torch.nn.RNN(hidden, hidden, nonlinearity="relu")
        else:
            module = (torch.nn.LSTM if kind == "lstm" else torch.nn.GRU)(hidden, hidden)
    return module.to(device=where.device, dtype=where.dtype)


def _pieces(
    name: str, module: torch.nn.Module, x: torch.Tensor, where: Where, work: tuple[float, float], training: bool
) -> list[Piece]:
    flops, moved = work
    allowed = tolerance(where, x.shape[2], products=min(16, x.shape[0]))
    x.requires_grad_(training)

    def forward() -> Any:
        with torch.set_grad_enabled(training):
            return module(x)[0]

    found = [Piece(f"{name} forward", forward, lambda: _forward_error(forward(), module, x), allowed, flops, moved)]
    if not training:
        return found
    y = forward()
    dy = where.random(*y.shape)
    weights = list(module.parameters())
    fused = "LSTM" in type(module).__name__ and where.device == "cpu"
    note = "one primitive makes both gradients, whichever is asked for" if fused else "includes going back through time"
    for direction, wanted, share in (
        ("input_grad", [x], 1), ("weight_grad", weights, 1), ("backward", [x, *weights], 2),
    ):  # fmt: skip
        call = _gradients(y, wanted, dy)
        error = lambda d=direction: _gradient_error(d, module, x, dy)  # noqa: E731
        found.append(Piece(f"{name} {direction}", call, error, 4 * allowed, share * flops, share * moved,
                           "" if direction == "backward" else note))  # fmt: skip
    return found


def _gradients(y: torch.Tensor, wanted: Sequence[torch.Tensor], dy: torch.Tensor) -> Callable[[], Any]:
    return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)


def _exact(module: torch.nn.Module) -> torch.nn.Module:
    import copy

    return copy.deepcopy(module).double()


def _forward_error(y: torch.Tensor, module: torch.nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        return relative_error(y.detach()[:, :_CHECKED], _exact(module)(x[:, :_CHECKED].double())[0])


def _gradient_error(direction: str, module: torch.nn.Module, x: torch.Tensor, dy: torch.Tensor) -> float:
    """With a gradient that is zero but for two sequences, so that float64 needs those two only."""
    masked = torch.zeros_like(dy)
    masked[:, :_CHECKED] = dy[:, :_CHECKED]
    found = torch.autograd.grad(module(x)[0], [x, *module.parameters()], masked)
    exact_module, part = _exact(module), x.detach()[:, :_CHECKED].double().requires_grad_()
    y = exact_module(part)[0]
    exact = torch.autograd.grad(y, [part, *exact_module.parameters()], dy[:, :_CHECKED].double())
    errors = [relative_error(found[0][:, :_CHECKED], exact[0])]
    errors += [relative_error(f, e) for f, e in zip(found[1:], exact[1:], strict=True)]
    return errors[0] if direction == "input_grad" else max(errors[1:]) if direction == "weight_grad" else max(errors)
