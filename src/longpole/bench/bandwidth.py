"""Ceilings of memory, level by level: read, copy, update, triad.

An operation on 16 KiB takes less than its dispatch, so one call must go over the same small memory many times.
Overlapping views do that: row r of `base.as_strided((threads, rows, n), (far, step, 1))` starts `step`
elements after row r - 1, so that thousands of rows of n elements touch little more than n elements. Each
thread has memory of its own, as torch splits work by the leading dim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from longpole.bench.compute import rates_of
from longpole.bench.devices import Device, device_of
from longpole.machine.ceilings import Level, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.machine.hardware import Cache, Hardware

    Trial = tuple[str, int, Callable[[], object]]  # name, bytes moved, work

_FLOAT = 4
_STEP = 8  # one AVX2 vector: keeps rows aligned for it
_VISITED = 16 * 1024**2  # bytes a thread visits in one call
_GPU_BYTES = 1024**3


def measure_levels(hardware: Hardware, threads: int, device_name: str, budget_s: float) -> list[Level]:
    """Every cache level of a CPU and main memory; of a GPU its memory only."""
    device = device_of(device_name)
    if device.kind != "cpu":
        return [_main_memory(device, _GPU_BYTES, budget_s)]
    share = budget_s / (len(hardware.caches) + 1)
    levels = [_cache_level(cache, hardware, threads, device, share) for cache in hardware.caches]
    last = max((cache.bytes_each for cache in hardware.caches), default=32 * 1024**2)
    levels.append(_main_memory(device, 8 * last, share))
    return _falling(levels)


def _cache_level(cache: Cache, hardware: Hardware, threads: int, device: Device, budget_s: float) -> Level:
    together = hardware.cache_bytes(cache.level, threads) or cache.bytes_each
    # Half a level: what remains is for the stack, the tables and the neighbours.
    each = min(together // threads, cache.bytes_each) // 2
    how = f"{threads} x {each // 1024} KiB in L{cache.level}"
    rates = _run(_overlapping(threads, each), device, budget_s, how, scale=threads)
    return Level(f"L{cache.level}", together, max(rate.best for rate in rates), tuple(rates))


def _falling(levels: Sequence[Level]) -> list[Level]:
    """Nearer levels are at least as fast as those behind them, since what is behind is reached through them."""
    fixed: list[Level] = []
    best = 0.0
    for level in reversed(levels):
        best = max(best, level.best_bytes_per_s)
        fixed.append(Level(level.name, level.capacity_bytes, best, level.rates))
    return fixed[::-1]


def _overlapping(threads: int, bytes_each: int) -> list[Trial]:
    """Trials (name, bytes, work) whose arrays together take `bytes_each` a thread."""
    x = _rows(threads, bytes_each)
    a, b = _rows(threads, bytes_each // 2), _rows(threads, bytes_each // 2)
    p, q, r = (_rows(threads, bytes_each // 3) for _ in range(3))
    return [
        ("read", x.numel() * _FLOAT, lambda: x.sum(-1)),
        ("write", x.numel() * _FLOAT, lambda: x.fill_(0.0)),
        ("copy", 2 * a.numel() * _FLOAT, lambda: a.copy_(b)),
        ("update", 3 * a.numel() * _FLOAT, lambda: a.add_(b)),
        ("triad", 3 * p.numel() * _FLOAT, lambda: torch.add(q, r, alpha=2.0, out=p)),
    ]


def _rows(threads: int, bytes_each: int) -> torch.Tensor:
    columns = max(_STEP, bytes_each // _FLOAT // _STEP * _STEP)
    # Rows may drift by a quarter of the memory at most.
    rows = max(1, min(_VISITED // (columns * _FLOAT), columns // 4 // _STEP))
    far = columns + rows * _STEP
    return torch.zeros(threads * far).as_strided((threads, rows, columns), (far, _STEP, 1))


def _main_memory(device: Device, size: int, budget_s: float) -> Level:
    a, b, c = (torch.zeros(size // _FLOAT, device=device.name) for _ in range(3))
    # oneDNN's and MKL's readers differ from torch's own: the best of all is the ceiling.
    trials: list[Trial] = [
        ("read", size, a.sum),
        ("read two", 2 * size, lambda: torch.dot(a, b)),
        ("write", size, lambda: a.fill_(0.0)),
        ("copy", 2 * size, lambda: a.copy_(b)),
        ("update", 3 * size, lambda: a.add_(b)),
        ("triad", 3 * size, lambda: torch.add(b, c, alpha=2.0, out=a)),
    ]
    rates = _run(trials, device, budget_s, f"arrays of {size // 1024**2} MiB", scale=1)
    return Level("memory", None, max(rate.best for rate in rates), tuple(rates))


def _run(trials: Sequence[Trial], device: Device, budget_s: float, how: str, *, scale: int) -> list[Rate]:
    rates: list[Rate] = []
    for name, moved, work in trials:
        rates += rates_of(name, how, moved, device.timed(work), budget_s / len(trials), scale=scale)
    return rates
