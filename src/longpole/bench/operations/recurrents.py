"""Recurrent layers in true training mode, by DeepBench's definition and as whole layers.

DeepBench measures cuDNN with "skip input": the layer's input is added to the gates as it is, so that only the
recurrent product counts. `recurrent` pieces do that, step by step in torch; `layer` pieces are `nn.RNN` (ReLU),
`nn.LSTM`, `nn.GRU` with their input product. Forward keeps what backward needs, as training does.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from longpole.bench.operations.exact_recurrents import output_error, training_errors
from longpole.bench.operations.piece import Piece, Where, tolerance
from longpole.bench.operations.recurrence import unroll
from longpole.cost.recurrent import GATES, deepbench_flops, layer_flops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from longpole.bench.suites import Size


def rnn(size: Size, where: Where) -> Iterator[Piece]:
    """Both definitions, one after the other since each holds the activations of every step.

    Suites of inference have forward alone, and nothing is kept.
    """
    kind = size.row["type"]
    hidden, batch, steps = (size.number(name) for name in ("hidden", "batch", "timesteps"))
    training = "inference" not in size.suite
    bytes_moved = float(where.bytes_each * (2 * steps * batch * hidden + GATES[kind] * hidden * hidden))
    x = where.random(steps, batch, hidden, scale=0.5)
    flops = deepbench_flops(kind, hidden, batch, steps)
    yield from _pieces(kind, Recurrent(kind, hidden, where), x, where, (flops, bytes_moved), training)
    flops = layer_flops(kind, hidden, hidden, batch, steps)
    yield from _pieces(kind, _layer(kind, hidden, where), x, where, (flops, bytes_moved), training)


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
        added = [(now,) * GATES[self.kind] for now in x.unbind(0)]
        return unroll(self.kind, added, lambda h: torch.addmm(self.bias, h, self.weight.t())), None


def _layer(kind: str, hidden: int, where: Where) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(where.seed)
        if kind == "vanilla":
            module: torch.nn.Module = torch.nn.RNN(hidden, hidden, nonlinearity="relu")
        else:
            module = (torch.nn.LSTM if kind == "lstm" else torch.nn.GRU)(hidden, hidden)
    return module.to(device=where.device, dtype=where.dtype)


def _pieces(
    kind: str, module: torch.nn.Module, x: torch.Tensor, where: Where, work: tuple[float, float], training: bool
) -> Iterator[Piece]:
    name = "recurrent" if isinstance(module, Recurrent) else "layer"
    flops, moved = work
    allowed = tolerance(where, x.shape[2], products=min(16, x.shape[0]))
    x.requires_grad_(training)

    def forward() -> torch.Tensor:
        with torch.set_grad_enabled(training):
            return module(x)[0]

    if not training:
        yield Piece(f"{name} forward", forward, lambda: output_error(kind, module, x, forward()), allowed, flops, moved)
        return
    y = forward()
    dy = where.random(*y.shape)
    weights = list(module.parameters())
    errors = cache(lambda: training_errors(kind, module, x, y, dy))  # in large sizes longer than everything else
    yield Piece(f"{name} forward", forward, lambda: errors()["forward"], allowed, flops, moved)
    note = _note(module, where)
    for direction, wanted, share in (
        ("input_grad", [x], 1), ("weight_grad", weights, 1), ("backward", [x, *weights], 2),
    ):  # fmt: skip
        both = direction == "backward"
        parts = ("input_grad", "weight_grad") if both else (direction,)
        error = lambda parts=parts: max(errors()[part] for part in parts)  # noqa: E731
        yield Piece(f"{name} {direction}", _gradients(y, wanted, dy), error, 4 * allowed, share * flops, share * moved,
                    "" if both else note)  # fmt: skip


def _note(module: torch.nn.Module, where: Where) -> str:
    if isinstance(module, torch.nn.LSTM) and where.device == "cpu":
        return "one primitive makes both gradients, whichever is asked for"
    return "includes going back through time"


def _gradients(y: torch.Tensor, wanted: Sequence[torch.Tensor], dy: torch.Tensor) -> Callable[[], Any]:
    return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)
