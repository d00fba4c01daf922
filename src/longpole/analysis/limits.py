"""How far a live run is from what its machine can do: the least time of each op, and what it is bound by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.host_costs import cost_at
from longpole.analysis.host_times import works_of
from longpole.analysis.study import BoundShares
from longpole.analysis.tree import sums
from longpole.machine import limits
from longpole.trace import OpClass, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from longpole.analysis.attribution import Attribution
    from longpole.analysis.host_times import Times
    from longpole.machine import Ceilings
    from longpole.trace import Trace

INSIDE = (Phase.FORWARD, Phase.LOSS, Phase.BACKWARD, Phase.CLIP, Phase.OPTIMIZER)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of each op, at the row of its event: NaN (or "") where cost or ceiling is not known."""

    ms: NDArray[np.float64]  # least milliseconds a step
    limit: dict[int, str]  # "compute", "memory" or "host"


def no_bounds(trace: Trace) -> Bounds:
    """Where no ceilings were measured: nothing is known."""
    return Bounds(np.full(len(trace.events), np.nan), {})


def bounds_of(trace: Trace, attribution: Attribution, times: Times, ceilings: Ceilings) -> Bounds:
    """The roofline of every op that does work, over the machine's measured ceilings."""
    found = no_bounds(trace)
    for work in works_of(attribution, times).tolist():
        cost = cost_at(trace, work)
        if cost is None:
            continue
        op_class = OpClass(int(attribution.op_class[work]))
        limit = limits(cost, op_class, _dtype(trace.text(int(trace.events.dtypes[work]))), ceilings)
        if limit.bound_ms is not None:
            found.ms[work] = limit.bound_ms * times.weight[work]
            found.limit[work] = limit.limit or ""
    return found


@lru_cache(maxsize=4096)
def _dtype(dtypes: str) -> str | None:
    """The type of the first tensor: Kineto has the type of every input, "" and "Scalar" for what is no tensor."""
    return first_tensor_type(json.loads(dtypes) if dtypes else [])


def first_tensor_type(names: Iterable[str]) -> str | None:
    """The first of the inputs' types that is a tensor's."""
    return next((name for name in names if name and name not in ("Scalar", "ScalarList", "GenericList")), None)


def bound_shares(trace: Trace, attribution: Attribution, times: Times, bounds: Bounds) -> BoundShares:
    """The step divided by what bounds it. The parts sum to the step.

    An op's time is compute's, memory's or the host's, whichever limit is the highest for it; time that is in
    no op is the host's inside the network and the optimizer, and `outside` elsewhere: data, logging, saving.
    """
    del trace
    names = ("compute", "memory", "host", "outside", "unknown")
    parts: dict[str, float] = dict.fromkeys(names, 0.0)
    rows = attribution.rows[times.weight[attribution.rows] > 0]
    inside = np.isin(attribution.phase[rows], INSIDE)
    for row, is_inside in zip(rows.tolist(), inside.tolist(), strict=True):
        work = int(attribution.work[row])
        name = "unknown" if work >= 0 else "host" if is_inside else "outside"
        parts[bounds.limit.get(work, "") or name] += float(times.ms[row])
    parts["outside"] += times.unexplained_ms
    known = np.nan_to_num(bounds.ms)
    op_ms = op_milliseconds(attribution, times)
    return BoundShares(
        **{f"{name}_ms": ms for name, ms in parts.items()},
        bound_ms=float(np.minimum(known, op_ms).sum()),
    )


def op_milliseconds(attribution: Attribution, times: Times) -> NDArray[np.float64]:
    """Milliseconds a step of each op with what it called, at the row of its event."""
    rows = attribution.rows[attribution.work[attribution.rows] >= 0]
    return sums(attribution.work[rows], times.ms[rows], len(times.ms))
