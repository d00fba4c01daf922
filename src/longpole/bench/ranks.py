"""Sizes of collectives: run on ranks spawned here, or on those that torchrun started."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import psutil
import torch
import torch.distributed as dist

from longpole.bench.collectives import Message, run_message, time_is_over
from longpole.bench.results import Row
from longpole.bench.spawn import run_local
from longpole.cost import bus_factor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from longpole.bench.suites import Size

_COPIES = 3  # of a message on each rank: what is sent, what comes, what checks it


def message_of(size: Size) -> tuple[Message, int]:
    """The message and how many ranks exchange it."""
    if size.op == "all_reduce":
        return Message("all_reduce", size.number("floats")), size.number("processors")
    return Message(size.row["collective"], size.number("elements"), size.row["dtype"]), size.number("ranks")


def run_collectives(
    sizes: Sequence[Size], ranks: Sequence[int], budget_s: float, deadline_s: float | None = None
) -> Iterator[list[Row]]:
    """A row for each size; sizes for other numbers of ranks than can be had are skipped with the reason.

    `budget_s` is for each message; none is begun after the deadline, by `time.monotonic()`, and it then has no row.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        yield from _under_torchrun(sizes, budget_s, deadline_s)
        return
    for count in sorted({message_of(size)[1] for size in sizes}):
        own = [size for size in sizes if message_of(size)[1] == count]
        if count not in ranks:
            reason = f"needs {count} ranks; start it under torchrun, or ask for --ranks {count} on this machine"
            yield [_row(size, {"skipped": reason}, "") for size in own]
            continue
        left_s = None if deadline_s is None else deadline_s - time.monotonic()
        if left_s is None or left_s > 0:
            yield _on_local_ranks(own, count, budget_s, left_s)


def _on_local_ranks(own: Sequence[Size], count: int, budget_s: float, left_s: float | None) -> list[Row]:
    room = psutil.virtual_memory().available / 2
    fitting = [size for size in own if message_of(size)[0].bytes * _COPIES * count <= room]
    messages = [message_of(size)[0] for size in fitting]
    results = run_local(messages, count, budget_s=budget_s, timeout_s=600.0, begin_within_s=left_s)
    rows = [_row(size, result, "gloo") for size, result in zip(fitting, results, strict=False)]
    too_large = {"skipped": "too large for so many ranks here"}
    return rows + [_row(size, too_large, "gloo") for size in own if size not in fitting]


def _under_torchrun(sizes: Sequence[Size], budget_s: float, deadline_s: float | None) -> Iterator[list[Row]]:
    cuda = torch.cuda.is_available()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(device)
    try:
        here = dist.get_world_size()
        for count in sorted({message_of(size)[1] for size in sizes} - {here}):
            reason = {"skipped": f"needs {count} ranks, torchrun started {here}"}
            yield [_row(size, reason, "") for size in sizes if message_of(size)[1] == count]
        for size in sizes:
            message, count = message_of(size)
            if count != here:
                continue
            if time_is_over(deadline_s):
                return
            yield [_row(size, run_message(message, device, budget_s), dist.get_backend())]
    finally:
        dist.destroy_process_group()


def _row(size: Size, result: dict[str, Any], backend: str) -> Row:
    message, count = message_of(size)
    row = Row(
        suite=size.suite, op=size.op, index=size.index, label=size.label, direction=message.operation,
        dtype=message.dtype, params=dict(size.row), bytes=float(message.bytes), note=f"{count} ranks, {backend}",
    )  # fmt: skip
    if "skipped" in result:
        row.skipped = result["skipped"]
        row.correct = False if result.get("wrong") else None
        return row
    median_ns = result["median_ns"]
    for name in ("median", "low", "high", "first_quartile", "third_quartile", "least"):
        setattr(row, f"{name}_ms", result[f"{name}_ns"] / 1e6)
    row.samples, row.correct = result["samples"], True
    row.bus_gb_per_s = (bus_factor(message.operation, count) or 0.0) * message.bytes / median_ns
    row.gb_per_s = message.bytes / median_ns
    return row
