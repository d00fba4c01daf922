"""The least time a machine could take for a cost: the roofline, over measured ceilings.

A bound must hold however lucky the caches are. An operator that moves more than a level holds may still find
as much as the level's capacity of its inputs there, and leave as much of its output; only what is beyond both
has to come from the next level. So bytes over twice the capacity are charged to the level behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from longpole.machine.ceilings import Ceilings, Level, Rate
from longpole.machine.hardware import Hardware
from longpole.trace import OpClass

if TYPE_CHECKING:
    from longpole.cost import Cost
    from longpole.machine.peaks import Peak

# torch's and Kineto's names of types -> ours
DTYPES = {
    "float": "fp32", "float32": "fp32", "torch.float32": "fp32", "fp32": "fp32",
    "double": "fp64", "float64": "fp64", "torch.float64": "fp64", "fp64": "fp64",
    "c10::bfloat16": "bf16", "bfloat16": "bf16", "torch.bfloat16": "bf16", "bf16": "bf16",
    "c10::half": "fp16", "half": "fp16", "float16": "fp16", "torch.float16": "fp16", "fp16": "fp16",
    "signed char": "int8", "int8": "int8", "torch.int8": "int8", "unsigned char": "int8", "torch.uint8": "int8",
    "tf32": "tf32",
}  # fmt: skip
_PRODUCTS = frozenset({OpClass.MATMUL, OpClass.CONVOLUTION, OpClass.ATTENTION, OpClass.RECURRENT})


@dataclass(frozen=True, slots=True)
class Limits:
    """The least milliseconds that each limit allows one call; None is not known."""

    compute_ms: float | None
    memory_ms: float | None
    host_ms: float | None  # one trip through the framework's dispatcher

    @property
    def bound_ms(self) -> float | None:
        """What no call can beat: the slower of compute and memory."""
        known = [ms for ms in (self.compute_ms, self.memory_ms) if ms is not None]
        return max(known) if known else None

    @property
    def limit(self) -> str | None:
        """compute, memory or host: which of the three is the slowest; None where nothing is known."""
        parts = (("compute", self.compute_ms), ("memory", self.memory_ms), ("host", self.host_ms))
        known = [(ms, name) for name, ms in parts if ms is not None]
        return max(known)[1] if self.bound_ms is not None else None


def limits(cost: Cost, op_class: OpClass | None, dtype: str | None, ceilings: Ceilings) -> Limits:
    """The three limits of one call.

    `dtype` in torch's, Kineto's or our words; float32 where it is None. Compute is charged where the type has a
    measured ceiling: to matrix products their type's, to everything else the highest of any type, since a
    vector unit's own ceiling is not measured.
    """
    operation = ceilings.delays.get("op")
    return Limits(
        _compute_ms(cost, op_class, dtype, ceilings),
        memory_ms(cost.must_move, ceilings),
        operation.least_ns / 1e6 if operation is not None else None,
    )


def bound_ms(cost: Cost | None, op_class: OpClass | None, dtype: str | None, ceilings: Ceilings) -> float | None:
    """The least milliseconds this machine could take for one call, or None where cost or ceiling is unknown."""
    return None if cost is None else limits(cost, op_class, dtype, ceilings).bound_ms


def _compute_ms(cost: Cost, op_class: OpClass | None, dtype: str | None, ceilings: Ceilings) -> float | None:
    flops = cost.must_compute
    name = DTYPES.get((dtype or "float").lower())
    if op_class in _PRODUCTS:
        ceiling = ceilings.flops_per_s(name) if name is not None else None
    else:
        ceiling = max((rate.best for rates in ceilings.compute.values() for rate in rates), default=None)
    return None if flops is None or not ceiling else flops / ceiling * 1e3


def memory_ms(bytes_moved: float | None, ceilings: Ceilings) -> float | None:
    """The least milliseconds to move so many bytes, whichever level they are in."""
    if bytes_moved is None or not ceilings.levels:
        return None
    nearer, least = 0, 0.0
    for level in ceilings.levels:
        beyond = max(0.0, bytes_moved - 2 * nearer)
        least = max(least, beyond / level.best_bytes_per_s)
        nearer = max(nearer, level.capacity_bytes or 0)
    return least * 1e3


def ceilings_from_sheet(peak: Peak, cache_bytes: int | None = None) -> Ceilings:
    """Data-sheet peaks in the place of measured ceilings, for traces of devices that are not here.

    Products in fp32 may run as tf32, so fp32 has the better of both. Sheets give no bandwidth of caches: what fits
    in `cache_bytes` (the last level's capacity, where the trace or the user knows it) is not charged at all.
    """
    compute: dict[str, list[Rate]] = {}
    for name in ("fp64", "fp32", "tf32", "bf16", "fp16", "int8"):
        values = [peak.flops_per_s(each) for each in ((name, "tf32") if name == "fp32" else (name,))]
        best = max((value for value in values if value is not None), default=None)
        if best is not None:
            compute[name] = [Rate(f"{name} peak", best, best, best, best, 0, peak.source)]
    memory = Level("memory", None, peak.memory_gb_per_s * 1e9)
    cache = [] if cache_bytes is None else [Level("cache", cache_bytes, float("inf"))]
    hardware = Hardware(peak.name, 0, 0)
    return Ceilings(hardware=hardware, threads=0, torch="", device=peak.name, compute=compute, levels=[*cache, memory])
