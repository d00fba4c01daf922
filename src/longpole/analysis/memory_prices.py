"""What computing layers again would free and cost, and which batch would fit: parts of stable JSON.

Bytes are of tensors; milliseconds are those that a step takes longer.
"""

from __future__ import annotations

import msgspec


class Price(msgspec.Struct, frozen=True):
    """One line of the list: these layers, checkpointed together."""

    layers: tuple[str, ...]
    names: str  # for --checkpoint
    freed_bytes: int  # by so much the peak falls
    peak_bytes: int  # that is left
    ms: float
    step_share: float | None = None  # `ms` of the step as it is
    byte_ms: float | None = None  # what they keep now times how long


class FitPrice(msgspec.Struct, frozen=True):
    """The cheapest layers for a budget."""

    budget_bytes: int
    price: Price | None = None  # None where no set of layers would do
    gap_ms: float = 0.0  # how much cheaper the best set could be at most; 0: this is the best
    smallest: Price | None = None  # the most that can be done, where the budget cannot be met


class Checked(msgspec.Struct, frozen=True):
    """A prediction beside what a run with the change measured."""

    names: str
    predicted_peak_bytes: int
    measured_peak_bytes: int | None
    predicted_ms: float | None = None
    measured_ms: float | None = None
    measured_ms_low: float | None = None  # 95 % interval
    measured_ms_high: float | None = None


class BatchPoint(msgspec.Struct, frozen=True):
    """One measured batch."""

    batch_size: int
    peak_bytes: int
    step_ms: float | None = None
    phase_peak_bytes: dict[str, int] = {}  # the most in each phase of the step; empty where not known


class LargestBatch(msgspec.Struct, frozen=True):
    """Peak = fixed + per sample x batch, and the largest batch that a budget holds; the interval is of 95 %."""

    budget_bytes: int
    budget_from: str
    points: tuple[BatchPoint, ...]
    fixed_bytes: float
    sample_bytes: float
    batch_size: int | None  # None: not even one sample fits, or memory does not grow with the batch
    low: int | None = None
    high: int | None = None
    note: str = ""
    checked: Checked | None = None
    checked_batch: int | None = None


class MemoryPrices(msgspec.Struct, frozen=True):
    """All that `longpole memory` finds out."""

    schema: str = "longpole.memory"
    version: int = 1
    script: str | None = None
    peak_bytes: int | None = None
    step_ms: float | None = None
    noise_ms: float | None = None  # by so much two runs as they are may differ, 95 %; None where not known
    overhead_known: bool = False  # whether what checkpointing itself costs is in the milliseconds
    prices: list[Price] = []
    fit: FitPrice | None = None
    checked: Checked | None = None
    largest_batch: LargestBatch | None = None
    notes: list[str] = []
