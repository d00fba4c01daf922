"""What checkpointing itself costs here and now, beside the second forward: of each call, and of each saved tensor."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import torch
from torch import nn

from longpole.apply.checkpoint import checkpoint_layers
from longpole.trace.clock import monotonic_ns
from longpole.whatif.recompute import Overhead

if TYPE_CHECKING:
    from collections.abc import Callable

FEW, MANY = 2, 42  # saved tensors
ROUNDS = 30


class _Tanhs(nn.Module):
    """So many operations that each save one tensor of one element."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.count):
            x = x.tanh()
        return x


def checkpoint_overhead(threads: int | None = None) -> Overhead:
    """Measured in half a second, with so many threads. Nothing else may call modules meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return _overhead()
    finally:
        torch.set_num_threads(before)


def _overhead() -> Overhead:
    few, many = (_added_ms(count) for count in (FEW, MANY))
    tensor = max((many - few) / (MANY - FEW), 0.0)
    return Overhead(max(few - FEW * tensor, 0.0), tensor)


def _added_ms(count: int) -> float:
    """Forward and backward with checkpointing, less without it, less one more forward."""
    model = nn.Sequential(_Tanhs(count))
    x = torch.ones(1, requires_grad=True)

    def forward() -> torch.Tensor:
        return model(x)

    def train() -> None:
        model(x).backward()

    plain, again = _quick_ms(train), _quick_ms(forward)
    checkpoints = checkpoint_layers(["0"])
    try:
        return max(_quick_ms(train) - plain - again, 0.0)
    finally:
        checkpoints.remove()


def _quick_ms(work: Callable[[], object]) -> float:
    work()
    found: list[float] = []
    for _ in range(ROUNDS):
        start = monotonic_ns()
        work()
        found.append((monotonic_ns() - start) / 1e6)
    return statistics.quantiles(found, n=4)[0]  # the quick ones: a busy machine must not count as overhead
