"""Runs and rows made up for tests, with sums that can be done in the head."""

from __future__ import annotations

from typing import Any

from longpole.analysis.survey import Figures, Serial, Survey
from longpole.survey.catalogue import Network
from longpole.survey.rows import Measured, rows_of


def run(step_ms: float = 100.0, **changes: Any) -> Figures:
    """100 ms: data 10, forward 24, loss 1, backward 50, optimizer 10, other 5."""
    parts = {"data": 10, "forward": 24, "loss": 1, "backward": 50, "optimizer": 10, "other": 5}
    made = {
        "phases_ms": {name: ms * step_ms / 100 for name, ms in parts.items()},
        "classes_ms": {"matmul": 0.5 * step_ms, "convolution": 0.1 * step_ms, "host": 0.4 * step_ms},
        "classes_flops": {"matmul": 90.0, "convolution": 5.0, "elementwise": 5.0},
        "input_grad_ms": 0.2 * step_ms,
        "weight_grad_ms": 0.25 * step_ms,
        "samples_per_s": 320.0,
        "pole": "WEIGHT GRADIENTS of `fc`",
        "pole_ms": 0.25 * step_ms,
        "bound_ms": {"compute": 0.6 * step_ms, "memory": 0.2 * step_ms, "host": 0.2 * step_ms},
        "saved_bytes": 64 * 2**20,
        "parameters_bytes": 2**20,
        "optimizer_bytes": 2 * 2**20,
        "accounted_share": 0.995,
        "parameters": 2**18,
        "batch_size": 32,
        "threads": 1,
        "framework": "torch 2",
        "serial": Serial(3, 4, 0.75, 1.3),
    } | changes
    return Figures(step_ms=step_ms, median_ms=step_ms, steps=5, **made)


def network(name: str = "net") -> Network:
    return Network(name, "mlp:mlp", "made", "for tests")


def survey(*measured: Measured) -> Survey:
    return Survey(date="2026-01-02", machine="Box", cores=2, threads=1, framework="torch 2", runs=2,
                  rows=rows_of(measured))  # fmt: skip


def measured(name: str = "net", *runs: Figures, failed: str | None = None) -> Measured:
    return Measured(network(name), "small", runs, failed, 3.0)
