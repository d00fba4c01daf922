"""Collectives: bytes that must cross the slowest link, by NCCL's definition of bus bandwidth.

Source of the factors: https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# operation -> (a, b): the factor is (a * ranks + b) / ranks
_FACTORS: Mapping[str, tuple[int, int]] = {
    "allreduce": (2, -2),
    "reducescatter": (1, -1),
    "allgather": (1, -1),
    "alltoall": (1, -1),
    "broadcast": (1, 0),
    "reduce": (1, 0),
    "sendrecv": (1, 0),
    "send": (1, 0),
    "recv": (1, 0),
}


def bus_factor(operation: str, ranks: int) -> float | None:
    """Bus bandwidth = factor * message bytes / time; None for an operation not in the table.

    `operation` in any spelling ("all_reduce", "AllReduce"). The message is the whole: for all_gather and
    reduce_scatter what all ranks hold together.
    """
    factor = _FACTORS.get(re.sub(r"[^a-z]", "", operation.lower()))
    return None if factor is None or ranks < 1 else (factor[0] * ranks + factor[1]) / ranks


def bus_bytes_per_s(operation: str, message_bytes: float, ranks: int, seconds: float) -> float | None:
    """Bus bandwidth, comparable between numbers of ranks."""
    factor = bus_factor(operation, ranks)
    return None if factor is None or seconds <= 0 else factor * message_bytes / seconds
