"""FLOPs and bytes of device work, by the shapes of the op that launched it, and the least time they take.

The outermost op round a launch that has a cost has all the work launched inside it; its cost is divided among
that work by duration. Bounds are over data-sheet peaks of the device that the trace names: peaks, not ceilings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_outputs import call_around, made_by, output_of
from longpole.analysis.limits import first_tensor_type
from longpole.analysis.tree import inherit
from longpole.cost import cost_of
from longpole.cost.op_classes import classify_op
from longpole.machine import ceilings_from_sheet, limits, peak_of
from longpole.trace import DEVICE_WORK, Kind, OpClass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from longpole.cost import Cost
    from longpole.machine import Ceilings, Peak
    from longpole.trace import Trace

MIB = 1 << 20
WINOGRAD = 4  # times fewer products
# Bytes of the last level of cache, which sheets of peaks leave out: what fits there need not come from memory.
# V100, A100, H100: table 3 of pmc.ncbi.nlm.nih.gov/articles/PMC10448217, and NVIDIA's "Hopper Architecture In-Depth";
# B200: 126 MB (chipsandcheese.com/p/nvidias-b200-keeping-the-cuda-juggernaut); T4, A10, A40, L4, L40S: NVIDIA's
# whitepapers of Turing, GA102 and Ada; AMD: rocm.docs.amd.com/en/latest/reference/gpu-specs.html (L3, else L2). Of an
# MI250X a program sees one die of two: figures of the card are twice what it has, and its bounds are loose.
# H800 and GH200 are taken to have the H100's, A800 the A100's, B300 the B200's.
CACHES: Mapping[str, int] = {
    "NVIDIA B300": 126 * MIB,
    "NVIDIA B200": 126 * MIB,
    "NVIDIA GH200 144GB": 60 * MIB,
    "NVIDIA GH200 96GB": 60 * MIB,
    "NVIDIA H800 SXM": 50 * MIB,
    "NVIDIA H200 SXM": 50 * MIB,
    "NVIDIA H100 PCIe": 50 * MIB,
    "NVIDIA H100 NVL": 50 * MIB,
    "NVIDIA H100 SXM": 50 * MIB,
    "NVIDIA A100 80GB PCIe": 40 * MIB,
    "NVIDIA A100 80GB SXM": 40 * MIB,
    "NVIDIA A100 40GB": 40 * MIB,
    "NVIDIA A800 80GB": 40 * MIB,
    "NVIDIA A40": 6 * MIB,
    "NVIDIA L40S": 96 * MIB,
    "NVIDIA L4": 48 * MIB,
    "NVIDIA A10": 6 * MIB,
    "NVIDIA T4": 4 * MIB,
    "NVIDIA V100 SXM2": 6 * MIB,
    "NVIDIA V100 PCIe": 6 * MIB,
    "AMD Instinct MI355X": 256 * MIB,
    "AMD Instinct MI350X": 256 * MIB,
    "AMD Instinct MI325X": 256 * MIB,
    "AMD Instinct MI300X": 256 * MIB,
    "AMD Instinct MI250X": 16 * MIB,
    "AMD Instinct MI210": 8 * MIB,
}


@dataclass(frozen=True, slots=True)
class WorkCosts:
    """By row of the event table, NaN where not known. Of the whole of each piece of work."""

    flops: NDArray[np.float64]
    bytes_moved: NDArray[np.float64]
    bound_ms: NDArray[np.float64]


def work_costs(trace: Trace) -> WorkCosts | None:
    """Costs of device work; None where no shapes were recorded."""
    events = trace.events
    rows = events.rows_of(*DEVICE_WORK)
    rows = rows[(events.launch[rows] >= 0) & (events.duration_ns[rows] > 0)]
    if not len(rows) or not np.any(events.shapes >= 0):
        return None
    around = call_around(trace)
    calls, call_of = _calls(trace, around)
    figures = _figures(trace, calls, around, _ceilings(trace.info.device))
    own = np.where(call_of >= 0, np.arange(len(events), dtype=np.int64), -1)
    costed = np.isfinite(figures[0]) | np.isfinite(figures[1])
    own[~costed[np.maximum(call_of, 0)]] = -1
    work = _outermost(trace, own)[events.launch[rows]]
    rows, work = rows[work >= 0], work[work >= 0]
    whole = np.bincount(work, weights=events.duration_ns[rows], minlength=len(events))
    found = np.full((3, len(events)), np.nan)
    found[:, rows] = figures[:, call_of[work]] * (events.duration_ns[rows] / whole[work])
    return WorkCosts(*found)


def peaks_used(device: str | None) -> str | None:
    """A sentence on the peaks that bounds are over; None where no sheet of the device is known."""
    peak = _peak(device)
    if peak is None:
        return None
    rates = [
        f"{rate:.0f} TFLOP/s {name}"
        for name, rate in (("bf16", peak.bf16), ("fp16", peak.fp16), ("tf32", peak.tf32), ("fp32", peak.fp32))
        if rate is not None
    ]
    return (
        f"Bounds are over data-sheet peaks of {peak.name} ({', '.join(rates)}, {peak.memory_gb_per_s:.0f} GB/s), which "
        "no program reaches; they were not measured."
    )


def _calls(trace: Trace, around: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An op for each distinct call (name, shapes, types, values), and which of them each row is; -1 for none."""
    events = trace.events
    ops = events.rows_of(Kind.OP).astype(np.int64)
    ops = ops[events.shapes[ops] >= 0]
    key = np.zeros(len(ops), dtype=np.int64)
    shapes_around = np.where(around >= 0, events.shapes[np.maximum(around, 0)], -1)
    for column in (events.name, events.shapes, events.dtypes, events.concrete, shapes_around):
        values = key * (len(trace.strings) + 1) + column[ops] + 1
        _, first, key = np.unique(values, return_index=True, return_inverse=True)
        key = key.reshape(-1)
    of = np.full(len(events), -1, dtype=np.int64)
    of[ops] = key
    return ops[first], of  # pyright: ignore[reportPossiblyUnboundVariable] # there are columns


def _outermost(trace: Trace, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row the outermost of the rows marked in `own` that is round it, itself included; -1 for none."""
    parent = trace.events.parent
    nearest = inherit(own, parent)
    found = nearest
    while True:
        up = np.where(found >= 0, parent[np.maximum(found, 0)], -1)
        above = np.where(up >= 0, nearest[np.maximum(up, 0)], -1)
        if not np.any(above >= 0):
            return found
        found = np.where(above >= 0, above, found)


def _figures(
    trace: Trace, calls: NDArray[np.int64], around: NDArray[np.int64], ceilings: Ceilings | None
) -> NDArray[np.float64]:
    """FLOPs, bytes and bound in ms of each call, one column a call; NaN where not known."""
    found = np.full((3, max(len(calls), 1)), np.nan)
    made = made_by(trace)
    for index, op in enumerate(calls.tolist()):
        cost = _cost_at(trace, op, output_of(trace, op, made, int(around[op])))
        if cost is None:
            continue
        dtype = _first_type(trace.text(int(trace.events.dtypes[op])))
        bound = None
        if ceilings is not None and dtype is not None:
            op_class = classify_op(trace.name_of(op))
            least = _with_winograd(trace, op, cost) if op_class is OpClass.CONVOLUTION else cost
            bound = limits(least, op_class, dtype, ceilings).bound_ms
        found[:, index] = [np.nan if value is None else value for value in (cost.flops, cost.bytes_moved, bound)]
    return found


def _with_winograd(trace: Trace, row: int, cost: Cost) -> Cost:
    """The cost with the least FLOPs that libraries for devices get by with: a quarter, where a kernel has a width.

    Winograd's F(4x4, 3x3) makes 16 outputs of a 3 x 3 kernel from 36 products instead of 144 (Lavin and Gray 2015,
    arXiv:1509.09308); recorded convolutions of a V100 are 1.5 times as fast as its peak allows the plain sum.
    """
    shapes = _list(trace.text(int(trace.events.shapes[row])))
    place = 2 if "backward" in trace.name_of(row) else 1
    weight = shapes[place] if place < len(shapes) else None
    if cost.must_compute is None or (isinstance(weight, list) and all(size == 1 for size in weight[2:])):
        return cost
    return replace(cost, least_flops=cost.must_compute / WINOGRAD)


def _cost_at(trace: Trace, row: int, output: tuple[int, ...] | None) -> Cost | None:
    events = trace.events
    texts = [trace.text(int(column[row])) for column in (events.shapes, events.dtypes, events.concrete)]
    return _cost(trace.name_of(row), *texts, output)


@lru_cache(maxsize=65536)
def _cost(name: str, shapes: str, dtypes: str, concrete: str, output: tuple[int, ...] | None) -> Cost | None:
    if not name.startswith("aten::"):  # formulas know the framework's own ops; a fused op's shapes say little
        return None
    return cost_of(name, _list(shapes), dtypes=_types(dtypes), concrete=_list(concrete), output=output)


def _list(text: str) -> list[object]:
    found = json.loads(text) if text.startswith("[") else []
    return found if isinstance(found, list) else []


def _types(text: str) -> list[str]:
    return [one if isinstance(one, str) else "" for one in _list(text)]


def _first_type(dtypes: str) -> str | None:
    """The type of the first tensor; None where types were not recorded: no bound without."""
    return first_tensor_type(_types(dtypes))


def _peak(device: str | None) -> Peak | None:
    peak = peak_of(device) if device is not None else None
    return peak if peak is not None and peak.name in CACHES else None


def _ceilings(device: str | None) -> Ceilings | None:
    peak = _peak(device)
    return ceilings_from_sheet(peak, CACHES[peak.name]) if peak is not None else None
