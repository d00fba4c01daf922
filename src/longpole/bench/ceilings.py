"""`longpole machine`: every ceiling of this machine, one after the other, within a budget of seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import psutil
import torch

from longpole.bench import bandwidth, compute, delays, links
from longpole.machine.ceilings import Ceilings, Delay, Level, Rate, installed_torch
from longpole.machine.hardware import read_hardware

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, and on how many threads. Shares of the budget are fixed: compute 45 %, memory 25 %, delays 10 %."""

    budget_s: float = 40.0
    threads: int | None = None  # torch's own number where None
    device: str = "cpu"
    ranks: tuple[int, ...] = (2,)


def measure_machine(plan: Plan, say: Callable[[str], None] = lambda _: None) -> Ceilings:
    """Measures everything; what this machine cannot do is named with the reason, never 0."""
    before = torch.get_num_threads()
    threads = plan.threads or before
    torch.set_num_threads(threads)
    began = time.perf_counter()
    try:
        return _measure(plan, threads, began, say)
    finally:
        torch.set_num_threads(before)


def _measure(plan: Plan, threads: int, began: float, say: Callable[[str], None]) -> Ceilings:
    hardware = read_hardware()
    reasons: dict[str, str] = {}
    idle, own = psutil.cpu_times().idle, _own_seconds()
    say("matrix products and convolutions")
    rates: dict[str, list[Rate]] = compute.measure_all(plan.device, 0.45 * plan.budget_s, reasons)
    say("memory")
    levels: list[Level] = bandwidth.measure_levels(hardware, threads, plan.device, 0.25 * plan.budget_s)
    say("dispatch")
    costs: dict[str, Delay] = delays.measure_all(plan.device, 0.1 * plan.budget_s, reasons)
    say("all-reduce between processes")
    found, waits = links.measure_all(plan.device, plan.ranks, reasons)
    seconds = time.perf_counter() - began
    spare = psutil.cpu_times().idle - idle + _own_seconds() - own
    busy = min(1.0, max(0.0, 1.0 - spare / (seconds * hardware.cores)))
    return Ceilings(
        hardware=hardware, threads=threads, torch=installed_torch(), device=plan.device, compute=rates, levels=levels,
        delays=costs, links=found, link_delays=waits, not_measured=reasons, busy_share=busy, seconds=seconds,
        measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )  # fmt: skip


def _own_seconds() -> float:
    """Processor time of this process and of the children that ended."""
    times = psutil.Process().cpu_times()
    return times.user + times.system + times.children_user + times.children_system
