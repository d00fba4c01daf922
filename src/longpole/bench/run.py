"""Runs sizes: in a stated order, within a budget, each checked; nothing that fails stops the rest."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from longpole.bench.devices import Device, device_of
from longpole.bench.memory import bytes_needed, too_large
from longpole.bench.operations import BUILDERS, DTYPES, Piece, UnsupportedSizeError, Where
from longpole.bench.results import Row
from longpole.bench.timing import Protocol, measure
from longpole.cost import Cost
from longpole.machine import bound_ms, load_ceilings
from longpole.trace import OpClass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from longpole.bench.suites import Size
    from longpole.machine import Ceilings

_CLASSES = {
    "gemm": OpClass.MATMUL, "linear": OpClass.MATMUL, "grouped_gemm": OpClass.MATMUL, "conv": OpClass.CONVOLUTION,
    "rnn": OpClass.RECURRENT, "attention": OpClass.ATTENTION,
}  # fmt: skip


_INT8 = frozenset({"gemm", "linear"})
_NO_BOUND = frozenset({"sparse_gemm", "all_reduce", "collective"})  # work that is not done, or not done here


@dataclass(frozen=True, slots=True)
class Options:
    """How sizes are run."""

    dtype: str = "fp32"
    device: str = "cpu"
    caches: tuple[str, ...] = ("hot",)
    protocol: Protocol = field(default_factory=Protocol)  # of each piece
    budget_s: float | None = None  # of all together
    forward_only: bool = False
    check_only: bool = False  # each piece once, compared with float64 and not timed


def in_order(sizes: Sequence[Size]) -> list[Size]:
    """Least work first: a budget then gives the most sizes, and the order is the same every time.

    Work is FLOPs and ten for each byte of data, which is about what a byte costs on machines with caches.
    """
    return sorted(sizes, key=lambda size: (size.flops + 10 * bytes_needed(size, 4), size.op, size.index))


def run_sizes(
    sizes: Sequence[Size], options: Options, seen: Callable[[int, int, Size], None] = lambda *_: None
) -> Iterator[list[Row]]:
    """The rows of each size as it is done; ends where the budget does, so that a later run can go on."""
    device = device_of(options.device)
    ceilings = load_ceilings(threads=torch.get_num_threads(), device=options.device)
    deadline = None if options.budget_s is None else time.monotonic() + options.budget_s
    ordered = in_order(sizes)
    for position, size in enumerate(ordered):
        if deadline is not None and time.monotonic() >= deadline:
            return
        seen(position, len(ordered), size)
        yield run_size(size, options, device, ceilings)


def run_size(size: Size, options: Options, device: Device, ceilings: Ceilings | None) -> list[Row]:
    """Every piece of one size, or one row that says why there is none."""
    where = Where(options.dtype, options.device, size.index)
    reason = _not_possible(size, options)
    if reason is not None:
        return [_row(size, options, "", options.caches[0], skipped=reason)]
    try:
        pieces = BUILDERS[size.op](size, where)
        return [row for piece in pieces for row in _rows(size, piece, options, device, ceilings)]
    except UnsupportedSizeError as error:
        return [_row(size, options, "", options.caches[0], skipped=str(error))]
    except (RuntimeError, MemoryError, NotImplementedError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        return [_row(size, options, "", options.caches[0], skipped=lines[0][:300])]
    finally:
        gc.collect()  # graphs of recurrent layers hold cycles, and the next size needs their memory


def _not_possible(size: Size, options: Options) -> str | None:
    if options.dtype not in DTYPES:
        return f"type {options.dtype} is not among {', '.join(DTYPES)}"
    if options.dtype == "tf32" and options.device == "cpu":
        return "this hardware has no tf32"
    if options.dtype == "int8" and size.op not in _INT8:
        return f"int8 is run for {' and '.join(sorted(_INT8))} only: torch multiplies matrices of it"
    return too_large(size, DTYPES[options.dtype].itemsize)


def _rows(size: Size, piece: Piece, options: Options, device: Device, ceilings: Ceilings | None) -> Iterator[Row]:
    if options.forward_only and "forward" not in piece.direction:
        return
    error = piece.error()
    if options.check_only:
        yield _row(
            size, options, piece.direction, options.caches[0], flops=piece.flops, bytes=piece.bytes_moved, error=error,
            tolerance=piece.tolerance, correct=error <= piece.tolerance, note=piece.note,
        )  # fmt: skip
        return
    for cache in options.caches:
        before = device.flush() if cache == "cold" else None
        timing = measure(device.timed(piece.work), options.protocol, before_each=before)
        seconds = timing.median_ns / 1e9
        row = _row(
            size, options, piece.direction, cache,
            flops=piece.flops, bytes=piece.bytes_moved, median_ms=timing.median_ns / 1e6, low_ms=timing.low_ns / 1e6,
            high_ms=timing.high_ns / 1e6, first_quartile_ms=timing.first_quartile_ns / 1e6,
            third_quartile_ms=timing.third_quartile_ns / 1e6, least_ms=timing.least_ns / 1e6,
            samples=timing.samples, settled=timing.settled, error=error, tolerance=piece.tolerance,
            tflops=None if not piece.flops else piece.flops / seconds / 1e12,
            gb_per_s=None if piece.bytes_moved is None else piece.bytes_moved / seconds / 1e9,
            correct=error <= piece.tolerance, note=piece.note,
        )  # fmt: skip
        row.bound_ms = bound_of(row, ceilings)
        yield row


def bound_of(row: Row, ceilings: Ceilings | None) -> float | None:
    """The least milliseconds this machine could take; None where cost or ceilings are not known."""
    if ceilings is None or row.median_ms is None or "fused" in row.note or row.op in _NO_BOUND:
        return None
    return bound_ms(Cost(row.flops, row.bytes), _CLASSES.get(row.op, OpClass.ELEMENTWISE), row.dtype, ceilings)


def _row(size: Size, options: Options, direction: str, cache: str, **values: object) -> Row:
    return Row(
        suite=size.suite, op=size.op, index=size.index, label=size.label, direction=direction, dtype=options.dtype,
        cache=cache, params={name: value for name, value in size.row.items() if value}, **values,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
