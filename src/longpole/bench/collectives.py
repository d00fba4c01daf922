"""Collectives over torch.distributed: each verified, then timed as the slowest rank saw it.

Runs inside a process group that is set up already: by `longpole.bench.rank` for processes spawned here, or by
torchrun.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

from longpole.bench.timing import median_interval

if TYPE_CHECKING:
    from collections.abc import Callable

# Renamed in torch 2.13; older ones have the old name only.
_all_gather_call: Any = getattr(dist, "all_gather_single", None) or getattr(dist, "all_gather_into_tensor", None)
_reduce_scatter_call: Any = getattr(dist, "reduce_scatter_single", None) or getattr(dist, "reduce_scatter_tensor", None)

FEWEST, MOST = 5, 400
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Message:
    """One size of one collective. `elements` is the whole message, as bus bandwidth is defined on it."""

    operation: str
    elements: int
    dtype: str = "fp32"

    @property
    def bytes(self) -> int:
        return self.elements * (4 if self.dtype == "fp32" else 2)


def run_message(message: Message, device: str, budget_s: float) -> dict[str, Any]:
    """Verified and timed on every rank; the same result everywhere. A backend that cannot do it says why."""
    try:
        call, check = prepare(message, device)
        call()
        wrong = check()
    except (RuntimeError, ValueError, NotImplementedError) as error:
        return {"skipped": str(error).splitlines()[0]}
    if largest(float(wrong)) > 0:
        return {"skipped": "the result is wrong on some rank", "wrong": True}
    for _ in range(2):
        call()
    once = largest(_seconds(call, device))
    repeats = max(FEWEST, min(MOST, int(budget_s / max(once, 1e-7))))
    samples = torch.tensor([_seconds(call, device) for _ in range(repeats)], dtype=torch.float64)
    slowest = samples.to(device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    times = (slowest.cpu() * 1e9).tolist()
    median, low, high = median_interval(times)
    first, third = (float(each) for each in np.percentile(times, [25, 75]))
    return {
        "median_ns": median, "low_ns": low, "high_ns": high, "first_quartile_ns": first, "third_quartile_ns": third,
        "least_ns": min(times), "samples": repeats,
    }  # fmt: skip


def time_is_over(deadline_s: float | None) -> bool:
    """Whether any rank's `time.monotonic()` is past the deadline: the same answer on every rank, which must all ask."""
    return deadline_s is not None and largest(time.monotonic() - deadline_s) >= 0


def _seconds(call: Callable[[], object], device: str) -> float:
    """One call, from a common start. The barrier itself ends within microseconds on all ranks."""
    dist.barrier()
    began = time.perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def largest(value: float) -> float:
    """The largest value that any rank has."""
    device = "cpu" if dist.get_backend() == "gloo" else "cuda"
    shared = torch.tensor([value], dtype=torch.float64, device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return float(shared.item())


def prepare(message: Message, device: str) -> tuple[Callable[[], object], Callable[[], bool]]:
    """The call, and a check of its result that is True where it is wrong.

    Rank r sends r + 1 everywhere, so that sums are small whole numbers, exact in every type.
    """
    make = _MAKERS.get(message.operation)
    if make is None:
        raise ValueError(f"no collective called {message.operation}")
    return make(message, device)


def _filled(count: int, message: Message, device: str) -> torch.Tensor:
    return torch.full((count,), float(dist.get_rank() + 1), dtype=_DTYPES[message.dtype], device=device)


def _all_reduce(message: Message, device: str) -> tuple[Callable[[], object], Callable[[], bool]]:
    ranks = dist.get_world_size()
    data = _filled(message.elements, message, device)
    total = ranks * (ranks + 1) / 2

    def check() -> bool:
        wrong = bool((data != total).any())
        data.zero_()  # else sums of sums would overflow while calls repeat
        return wrong

    return lambda: dist.all_reduce(data), check


def _all_gather(message: Message, device: str) -> tuple[Callable[[], object], Callable[[], bool]]:
    ranks = dist.get_world_size()
    part = message.elements // ranks
    data, out = _filled(part, message, device), _filled(part * ranks, message, device)
    expected = torch.arange(1, ranks + 1, dtype=out.dtype, device=device).repeat_interleave(part)
    return lambda: _all_gather_call(out, data), lambda: not torch.equal(out, expected)


def _reduce_scatter(message: Message, device: str) -> tuple[Callable[[], object], Callable[[], bool]]:
    ranks = dist.get_world_size()
    part = message.elements // ranks
    data, out = _filled(part * ranks, message, device), _filled(part, message, device)
    total = ranks * (ranks + 1) / 2
    return lambda: _reduce_scatter_call(out, data), lambda: bool((out != total).any())


def _broadcast(message: Message, device: str) -> tuple[Callable[[], object], Callable[[], bool]]:
    data = _filled(message.elements, message, device)
    return lambda: dist.broadcast(data, 0), lambda: bool((data != 1).any())


def _all_to_all(message: Message, device: str) -> tuple[Callable[[], object], Callable[[], bool]]:
    ranks = dist.get_world_size()
    part = message.elements // ranks
    data, out = _filled(part * ranks, message, device), _filled(part * ranks, message, device)
    expected = torch.arange(1, ranks + 1, dtype=out.dtype, device=device).repeat_interleave(part)
    return lambda: dist.all_to_all_single(out, data), lambda: not torch.equal(out, expected)


def _send(message: Message, device: str) -> tuple[Callable[[], object], Callable[[], bool]]:
    """Rank 0 sends to rank 1; others have nothing to do."""
    data, rank = _filled(message.elements, message, device), dist.get_rank()

    def call() -> None:
        if rank == 0:
            dist.send(data, 1)
        elif rank == 1:
            dist.recv(data, 0)

    return call, lambda: rank == 1 and bool((data != 1).any())


_MAKERS = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "broadcast": _broadcast,
    "all_to_all": _all_to_all,
    "send_recv": _send,
}
