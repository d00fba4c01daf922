"""Ceilings between processes and devices: all-reduce on local ranks, copies to and from a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from longpole.bench.collectives import Message
from longpole.bench.devices import device_of
from longpole.bench.spawn import run_local
from longpole.bench.timing import Protocol, measure
from longpole.cost import bus_factor
from longpole.machine.ceilings import Delay, Rate

if TYPE_CHECKING:
    from collections.abc import Sequence

_SMALL, _SIZES = 2, (262_144, 4_194_304)  # floats: 8 bytes, 1 MiB, 16 MiB


def measure_all(device_name: str, ranks: Sequence[int], reasons: dict[str, str]) -> tuple[list[Rate], list[Delay]]:
    """Bus bandwidth and latency for each number of ranks; host-device copies where there is a device."""
    rates: list[Rate] = []
    delays: list[Delay] = []
    for count in ranks:
        _all_reduce(device_name, count, reasons, rates, delays)
    if device_name != "cpu":
        rates += _copies(device_name)
    return rates, delays


def _all_reduce(device: str, ranks: int, reasons: dict[str, str], rates: list[Rate], delays: list[Delay]) -> None:
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    backend = "nccl" if gpus >= ranks else "gloo"
    messages = [Message("all_reduce", count) for count in (_SMALL, *_SIZES)]
    found = run_local(messages, ranks, backend=backend, budget_s=0.4, timeout_s=40.0)
    small, large = found[0], found[1:]
    if "skipped" in small:
        reasons[f"all-reduce, {ranks} ranks"] = small["skipped"]
        return
    name = f"all_reduce, {ranks} ranks, {backend}"
    times = [small[f"{part}_ns"] for part in ("least", "median", "first_quartile", "third_quartile")]
    delays.append(Delay(name, *times, samples=small["samples"], how="8 bytes"))
    for message, result in zip(messages[1:], large, strict=True):
        if "skipped" in result:
            continue
        moved = (bus_factor("all_reduce", ranks) or 0.0) * message.bytes * 1e9
        times = (result[f"{part}_ns"] for part in ("least", "median", "third_quartile", "first_quartile"))
        best, median, low, high = (moved / ns for ns in times)
        rates.append(
            Rate(name, best, median, low, high, result["samples"], f"{message.bytes >> 20} MiB, bus bandwidth")
        )


def _copies(device_name: str) -> list[Rate]:
    device = device_of(device_name)
    size = 256 * 1024**2
    there = torch.empty(size, dtype=torch.uint8, device=device.name)
    found: list[Rate] = []
    for pinned in (False, True):
        here = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        for name, to, source in (("to the device", there, here), ("from the device", here, there)):
            timing = measure(device.timed(lambda to=to, source=source: to.copy_(source)), Protocol(budget_s=1.0))
            times = (timing.least_ns, timing.median_ns, timing.third_quartile_ns, timing.first_quartile_ns)
            best, median, low, high = (size / ns * 1e9 for ns in times)
            kind = "pinned" if pinned else "pageable"
            found.append(Rate(f"copy {name}, {kind}", best, median, low, high, timing.samples, "256 MiB"))
    return found
