"""Batches with a delay, from a plain function."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from planted import Delay

BATCH = 128


def get_batch(x: torch.Tensor, y: torch.Tensor, delay: Delay) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randint(len(x), (BATCH,))
    with delay:
        time.sleep(delay.sleep_s)
        while time.perf_counter_ns() < delay.spin_until_ns:
            pass
    return x[rows], y[rows]
