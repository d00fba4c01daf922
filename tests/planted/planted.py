"""What the planted scripts share: a delay that measures itself, the usual options, a small regression task.

A delay is written where it is planted, so that the innermost Python line is the script's own:

    with delay:
        time.sleep(delay.sleep_s)
        while time.perf_counter_ns() < delay.spin_until_ns:
            pass

It sleeps, or with --busy spins: one of the two takes no time. If PLANTED_TRUTH names a file, what each delay really
took is written there at exit:

    {"delays": {NAME: {"nominal_ms": 4.0, "count": 60, "total_ms": 243.1, "each_ms": [...]}}}
"""

from __future__ import annotations

import argparse
import atexit
import json
import multiprocessing
import os
import time
from pathlib import Path

import torch

FEATURES = 64


class Delay:
    """A pause of known size, and how long each really was. In a DataLoader's worker the parent learns nothing of it."""

    def __init__(self, name: str, ms: float, busy: bool = False) -> None:
        self.name = name
        self.ms = ms
        self.busy = busy
        self.sleep_s = 0.0 if busy else ms / 1e3
        self.spin_until_ns = 0
        self.each_ns: list[int] = []
        _delays.append(self)

    def __enter__(self) -> Delay:
        self._entered_ns = time.perf_counter_ns()
        if self.busy:
            self.spin_until_ns = self._entered_ns + int(self.ms * 1e6)
        return self

    def __exit__(self, *error: object) -> None:
        self.each_ns.append(time.perf_counter_ns() - self._entered_ns)


_delays: list[Delay] = []


def _write_truth(path: str, pid: int) -> None:
    if os.getpid() != pid:
        return
    delays = {
        delay.name: {
            "nominal_ms": delay.ms,
            "count": len(delay.each_ns),
            "total_ms": sum(delay.each_ns) / 1e6,
            "each_ms": [ns / 1e6 for ns in delay.each_ns],
        }
        for delay in _delays
    }
    Path(path).write_text(json.dumps({"delays": delays}))


if "PLANTED_TRUTH" in os.environ and multiprocessing.parent_process() is None:
    atexit.register(_write_truth, os.path.abspath(os.environ["PLANTED_TRUTH"]), os.getpid())


def options(description: str | None, delay_ms: float = 4.0, steps: int = 60) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--delay-ms", type=float, default=delay_ms)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--busy", action="store_true", help="spin instead of sleeping")
    return parser


def regression(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """x (rows, FEATURES) and a smooth target y (rows, 1), the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, FEATURES, generator=generator)
    return x, torch.sin(x[:, :8].sum(1, keepdim=True))


def print_losses(losses: list[torch.Tensor]) -> None:
    """Every loss to the last bit."""
    for step, loss in enumerate(losses):
        print(f"step {step} loss {loss.item().hex()}")
