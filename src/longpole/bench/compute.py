"""Ceilings of arithmetic: matrix products of every type the hardware runs, and convolutions, best over shapes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from longpole.bench.devices import Device, device_of
from longpole.bench.timing import Protocol, measure
from longpole.machine.ceilings import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Small ones live in caches, large ones amortise packing; the last two are long in one dim, as layers are.
_SHAPES: Sequence[tuple[int, int, int]] = (
    (256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (512, 2048, 2048), (1024, 512, 4096),
)  # fmt: skip
_LARGE_SHAPES: Sequence[tuple[int, int, int]] = ((4096, 4096, 4096), (8192, 8192, 8192), (8192, 8192, 1024))
# batch, channels, size, filters, kernel: layers of ResNet-50 and VGG-16 (arXiv:1512.03385, arXiv:1409.1556)
_CONVOLUTIONS: Sequence[tuple[int, int, int, int, int]] = (
    (4, 64, 56, 64, 3),
    (4, 256, 14, 256, 3),
    (4, 256, 56, 64, 1),
)
_TYPES: Sequence[tuple[str, torch.dtype]] = (
    ("fp32", torch.float32), ("fp64", torch.float64), ("bf16", torch.bfloat16), ("fp16", torch.float16),
)  # fmt: skip


def measure_all(device_name: str, budget_s: float, reasons: dict[str, str]) -> dict[str, list[Rate]]:
    """Rates of each type; types that fail are named in `reasons`."""
    device = device_of(device_name)
    found: dict[str, list[Rate]] = {}
    for name, dtype in _TYPES:
        share = budget_s * (0.3 if name == "fp32" else 0.15)
        _add(found, name, reasons, lambda d=dtype, n=name, s=share: _matmul(device, d, n, s))
        if name in {"fp32", "bf16"}:
            _add(found, name, reasons, lambda d=dtype, n=name, s=share / 2: _convolution(device, d, n, s))
    _add(found, "int8", reasons, lambda: _int8(device, 0.1 * budget_s))
    _tf32(device, found, reasons, 0.1 * budget_s)
    return found


def _add(found: dict[str, list[Rate]], name: str, reasons: dict[str, str], work: Callable[[], Rate]) -> None:
    try:
        found.setdefault(name, []).append(work())
    except (RuntimeError, NotImplementedError) as error:
        reasons[name] = str(error).splitlines()[0]
    if not found.get(name):
        found.pop(name, None)


def _tf32(device: Device, found: dict[str, list[Rate]], reasons: dict[str, str], budget_s: float) -> None:
    if device.kind != "cuda" or torch.cuda.get_device_capability()[0] < 8:
        reasons["tf32"] = "this hardware has no tf32"
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        _add(found, "tf32", reasons, lambda: _matmul(device, torch.float32, "tf32", budget_s))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _best(
    name: str, trials: Sequence[tuple[str, float, Callable[[], object]]], device: Device, budget_s: float
) -> Rate:
    """The fastest of the trials (how, operations, work); each has a share of the budget."""
    rates: list[Rate] = []
    scale = torch.get_num_threads() if device.kind == "cpu" else 1
    began = time.perf_counter()
    for how, operations, work in trials:
        if rates and time.perf_counter() - began > budget_s:
            break
        rates += rates_of(name, how, operations, device.timed(work), budget_s / len(trials), scale=scale)
    return max(rates, key=lambda rate: rate.best)


def rates_of(
    name: str, how: str, units: float, work: Callable[[], object], budget_s: float, *, scale: int
) -> list[Rate]:
    """The rate on all threads, and that of one thread times `scale`: the number of threads, or 1 for shared means.

    The second matters on a machine that others use too: threads that wait for one another are slowed by every
    interruption of any of them, one thread has undisturbed moments. It is also what no number of threads beats.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return [_rate(name, how, units, work, budget_s, 1)]
    rates = [_rate(name, how, units, work, budget_s / 2, 1)]
    torch.set_num_threads(1)
    try:
        alone = f"{how}, one thread" + (f" times {scale}" if scale > 1 else "")
        return [*rates, _rate(name, alone, units, work, budget_s / 2, scale)]
    finally:
        torch.set_num_threads(threads)


def _rate(name: str, how: str, units: float, work: Callable[[], object], budget_s: float, times: int) -> Rate:
    timing = measure(work, Protocol(budget_s=budget_s, within=0.002, fewest=3))
    fastest_first = (timing.least_ns, timing.median_ns, timing.third_quartile_ns, timing.first_quartile_ns)
    best, median, low, high = (times * units / ns * 1e9 for ns in fastest_first)
    return Rate(name, best, median, low, high, timing.samples, how)


def _matmul(device: Device, dtype: torch.dtype, name: str, budget_s: float) -> Rate:
    shapes = [*_SHAPES, *_LARGE_SHAPES] if device.kind == "cuda" else [*_SHAPES]
    quick = _seconds_of(device, dtype)
    # A type that the hardware only imitates takes seconds for large shapes, and gains nothing by them.
    fitting = [s for s in shapes if quick * s[0] * s[1] * s[2] / 256**3 * 16 <= budget_s / 2] or [shapes[0]]
    trials = [_matmul_trial(device, dtype, shape) for shape in fitting]
    return _best(f"{name} matmul", trials, device, budget_s)


def _seconds_of(device: Device, dtype: torch.dtype) -> float:
    _, _, work = _matmul_trial(device, dtype, (256, 256, 256))
    return measure(device.timed(work), Protocol(budget_s=0.05, fewest=2)).least_ns / 1e9


def _matmul_trial(
    device: Device, dtype: torch.dtype, shape: tuple[int, int, int]
) -> tuple[str, float, Callable[[], object]]:
    m, k, n = shape
    a = torch.randn(m, k, device=device.name).to(dtype)
    b = torch.randn(k, n, device=device.name).to(dtype)
    out = torch.empty(m, n, dtype=dtype, device=device.name)
    return f"{m} x {k} x {n}", 2.0 * m * k * n, lambda: torch.mm(a, b, out=out)


def _int8(device: Device, budget_s: float) -> Rate:
    trials: list[tuple[str, float, Callable[[], object]]] = []
    for m, k, n in ((256, 256, 256), (512, 512, 512), (1024, 1024, 1024)):
        a = torch.randint(-128, 128, (m, k), dtype=torch.int8, device=device.name)
        b = torch.randint(-128, 128, (k, n), dtype=torch.int8, device=device.name)
        # Where the processor has no such arithmetic, what is contiguous decides: b as it is, or as a layer's weight.
        for right, layout in ((b, ""), (b.t().contiguous().t(), ", weight transposed")):
            work = lambda a=a, b=right: torch.ops.aten._int_mm(a, b)  # noqa: E731
            trials.append((f"{m} x {k} x {n}{layout}", 2.0 * m * k * n, work))
    return _best("int8 matmul", trials, device, budget_s)


def _convolution(device: Device, dtype: torch.dtype, name: str, budget_s: float) -> Rate:
    trials: list[tuple[str, float, Callable[[], object]]] = []
    for batch, channels, size, filters, kernel in _CONVOLUTIONS[:1] if dtype is torch.bfloat16 else _CONVOLUTIONS:
        x = torch.randn(batch, channels, size, size, device=device.name).to(dtype)
        w = torch.randn(filters, channels, kernel, kernel, device=device.name).to(dtype)
        x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))
        operations = 2.0 * batch * filters * size * size * channels * kernel * kernel
        how = f"{batch} x {channels} x {size} x {size}, {filters} filters of {kernel} x {kernel}"
        trials.append((how, operations, lambda x=x, w=w, p=kernel // 2: torch.conv2d(x, w, padding=p)))
    with torch.no_grad():
        return _best(f"{name} convolution", trials, device, budget_s)
