"""Op classes and ops of a live run on a host."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.host_costs import cost_at
from longpole.analysis.host_times import FORWARD_PHASES
from longpole.analysis.study import OpClassTime, OpTime
from longpole.analysis.tree import sums
from longpole.trace import OpClass, Phase, Role, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from longpole.analysis.attribution import Attribution
    from longpole.analysis.host_times import Times
    from longpole.trace import Trace

MOST_OPS = 400


def op_class_times(
    trace: Trace, attribution: Attribution, times: Times, least_ms: NDArray[np.float64]
) -> list[OpClassTime]:
    """Every class that takes time; they sum to the step."""
    rows = attribution.rows[times.weight[attribution.rows] > 0]
    classes, ms = attribution.op_class[rows], times.ms[rows]
    forward = np.isin(attribution.phase[rows], FORWARD_PHASES)
    backward = attribution.phase[rows] == Phase.BACKWARD
    found: list[OpClassTime] = []
    for op_class in OpClass:
        here = classes == op_class
        total = float(ms[here].sum()) + (times.unexplained_ms if op_class == OpClass.HOST else 0.0)
        if not total:
            continue
        works = np.unique(attribution.work[rows[here]])
        works = works[works >= 0]
        costs = [(cost_at(trace, work), float(times.weight[work])) for work in works.tolist()]
        found.append(
            OpClassTime(
                op_class=label(op_class),
                ms=total,
                share=total / times.step_ms,
                forward_ms=float(ms[here & forward].sum()),
                backward_ms=float(ms[here & backward].sum()),
                flops=sum((cost.flops or 0.0) * often for cost, often in costs if cost) if costs else None,
                bytes=sum((cost.bytes_moved or 0.0) * often for cost, often in costs if cost) if costs else None,
                calls=float(times.weight[works].sum()) if costs else None,
                bound_ms=float(np.nansum(least_ms[works])) if not np.isnan(least_ms[works]).all() else None,
            )
        )
    return sorted(found, key=lambda entry: -entry.ms)


def op_times(trace: Trace, attribution: Attribution, times: Times, least_ms: NDArray[np.float64]) -> list[OpTime]:
    """Ops by name, layer, role and shapes, longest first; unclassified ones are never cut off."""
    rows = attribution.rows[(attribution.work[attribution.rows] >= 0) & (times.weight[attribution.rows] > 0)]
    works = attribution.work[rows]
    keys: dict[tuple[int, int, int, int, int], list[int]] = defaultdict(list)
    ms = sums(works, times.ms[rows], len(trace.events))
    for work in np.unique(works).tolist():
        role, layer = int(attribution.role[work]), int(attribution.layer[work])
        op_class = int(attribution.op_class[work])
        keys[int(trace.events.name[work]), op_class, role, layer, int(trace.events.shapes[work])].append(work)
    found = [_op_time(trace, key, members, ms, times.weight, least_ms) for key, members in keys.items()]
    found.sort(key=lambda entry: -entry.ms)
    unknown = label(OpClass.UNCLASSIFIED)
    return [entry for at, entry in enumerate(found) if at < MOST_OPS or entry.op_class == unknown]


def _op_time(
    trace: Trace,
    key: tuple[int, int, int, int, int],
    members: Sequence[int],
    ms: NDArray[np.float64],
    weight: NDArray[np.float64],
    least_ms: NDArray[np.float64],
) -> OpTime:
    name, op_class, role, layer, shapes = key
    cost = cost_at(trace, members[0])
    calls, took = float(weight[list(members)].sum()), float(ms[list(members)].sum())
    bound = None if np.isnan(least_ms[list(members)]).any() else float(least_ms[list(members)].sum())
    return OpTime(
        op=trace.text(name),
        op_class=label(OpClass(op_class)),
        role=label(Role(role)),
        layer=trace.layers[layer].path if layer >= 0 else None,
        shapes=trace.text(shapes) or None,
        ms=took,
        calls=calls,
        flops=cost.flops * calls if cost and cost.flops is not None else None,
        bytes=cost.bytes_moved * calls if cost and cost.bytes_moved is not None else None,
        bound_ms=bound,
        of_ceiling=bound / took if bound is not None and took else None,
    )
