"""Layers, op classes and ops of a live run on a host: the ops of deep steps, brought to the ledger's times."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.analysis.probe import without_probe
from longpole.analysis.segments import steps_at
from longpole.analysis.study import LayerTime, OpClassTime, OpTime
from longpole.analysis.tree import sums
from longpole.cost import cost_of
from longpole.trace import Kind, Level, OpClass, Phase, Role, label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.analysis.attribution import Attribution
    from longpole.analysis.ledger import Ledger
    from longpole.cost import Cost
    from longpole.trace import Trace

MOST_OPS = 400
FORWARD_PHASES = (Phase.FORWARD, Phase.LOSS)


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds a step of each event, whole-table shape, and what of the step no event explains."""

    ms: NDArray[np.float64]
    weight: NDArray[np.float64]  # how often a step has this event: 1, less where steps differ, 0 where unused
    step_ms: float

    @property
    def unexplained_ms(self) -> float:
        """Python between marks, and what the level-0 steps had beyond the deep ones: the host's."""
        return max(self.step_ms - float(self.ms.sum()), 0.0)


def times_of(trace: Trace, attribution: Attribution, ledger: Ledger) -> Times:
    """Own times of events, less what recording them cost, so that each phase sums to its ledger."""
    weight, own_ns = typical(trace, attribution)
    own_ms = own_ns * weight / 1e6
    events, rows = trace.events, attribution.rows
    recorded = np.zeros(len(events))
    recorded[rows] = (events.kind[rows] == Kind.OP) * weight[rows]
    inside = rows[events.parent[rows] >= 0]
    np.add.at(recorded, events.parent[inside], weight[inside])
    ms = np.zeros(len(events))
    most = _most_probe_ms(trace)
    for phase in Phase:
        in_gaps = ledger.gap_ms.get(phase, 0.0)
        here = rows[attribution.phase[rows] == phase]
        # A mark covers its phase whole; a gap has holes.
        under, between = here[attribution.marked[here]], here[~attribution.marked[here]]
        ms[under] = without_probe(own_ms[under], recorded[under], _marked_target(ledger, phase, in_gaps), most)
        # No event covers those holes, so the events of a gap are never stretched to fill it.
        limit = min(in_gaps, float(own_ms[between].sum()))
        ms[between] = without_probe(own_ms[between], recorded[between], limit, most)
    return Times(ms, weight, float(ledger.wall_ms.mean()))


def _most_probe_ms(trace: Trace) -> float:
    """What recording an event can have cost: twice what it cost in a tight loop, since a step's caches are cold."""
    cost_ns = trace.info.facts.get("event_ns")
    return 2 * float(cost_ns) / 1e6 if cost_ns else np.inf


def typical(trace: Trace, attribution: Attribution) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight and own nanoseconds of each event, hiccups of single steps left out.

    Steps that ran the same ops in the same order stand for each other: the first of them has, for each event,
    the lower median over all, and counts as often as there are such steps.
    """
    weight = np.zeros(len(trace.events))
    own_ns = np.zeros(len(trace.events))
    alike: dict[bytes, list[NDArray[np.intp]]] = defaultdict(list)
    windows = steps_at(trace, Level.OPS)
    for window in windows:
        rows = attribution.rows[attribution.step[attribution.rows] == window.index]
        alike[trace.events.name[rows].tobytes()].append(rows)
    for group in alike.values():
        weight[group[0]] = len(group) / len(windows)
        own = np.sort(np.stack([attribution.own_ns[rows] for rows in group]), axis=0)
        own_ns[group[0]] = own[(len(group) - 1) // 2]
    return weight, own_ns


def _marked_target(ledger: Ledger, phase: Phase, in_gaps: float) -> float:
    return max(ledger.mean_ms(phase) - in_gaps, 0.0)


def layer_times(trace: Trace, attribution: Attribution, times: Times, least_ms: NDArray[np.float64]) -> list[LayerTime]:
    """Every layer, containers with what is in them; only leaves and containers' own time sum to the step."""
    count = len(trace.layers)
    parts = _layer_parts(attribution, times, count)
    parts["optimizer"] = _optimizer_by_layer(trace, attribution, times)
    own = {name: values.copy() for name, values in parts.items()}
    flops, calls = _layer_flops(trace, attribution, times, count), _layer_calls(trace, times, count)
    bound = _by_layer(attribution, works_of(attribution, times), least_ms, count)
    saved = np.array([float(trace.saved_bytes.get(index, 0)) for index in range(count)])
    params = np.array([float(layer.parameters or 0) for layer in trace.layers])
    for values in (*parts.values(), flops, bound, saved, params):
        _add_children(values, trace)
    split = len(trace.gradients.sequence) > 0
    found: list[LayerTime] = []
    for index, layer in enumerate(trace.layers):
        at = {name: float(values[index]) for name, values in parts.items()}
        total = at["forward"] + at["backward"] + at["optimizer"]
        found.append(
            LayerTime(
                layer=layer.path,
                type=layer.type,
                container=layer.container,
                parent=layer.parent,
                params=int(params[index]),
                forward_ms=at["forward"],
                backward_ms=at["backward"],
                input_grad_ms=at["input_grad"] if split else None,
                weight_grad_ms=at["weight_grad"] if split else None,
                recompute_ms=at["recompute"],
                optimizer_ms=at["optimizer"],
                total_ms=total,
                share=total / times.step_ms if times.step_ms else 0.0,
                saved_bytes=int(saved[index]) if trace.saved_bytes else None,
                flops=float(flops[index]) or None,
                bound_ms=float(bound[index]) or None,
                calls=float(calls[index]),
                own_forward_ms=float(own["forward"][index]),
                own_backward_ms=float(own["backward"][index]),
                own_input_grad_ms=float(own["input_grad"][index]) if split else None,
                own_weight_grad_ms=float(own["weight_grad"][index]) if split else None,
                own_ms=sum(float(own[name][index]) for name in ("forward", "backward", "optimizer")),
            )
        )
    return found


def _layer_parts(attribution: Attribution, times: Times, count: int) -> dict[str, NDArray[np.float64]]:
    rows = attribution.rows[attribution.layer[attribution.rows] >= 0]
    layer, ms = attribution.layer[rows], times.ms[rows]
    phase, role = attribution.phase[rows], attribution.role[rows]
    share = np.nan_to_num(attribution.weight_share[rows])
    backward = phase == Phase.BACKWARD
    gradient = backward & np.isin(role, (Role.INPUT_GRAD, Role.WEIGHT_GRAD))
    weights: Mapping[str, NDArray[Any]] = {
        "forward": np.isin(phase, FORWARD_PHASES) * 1.0,
        "backward": backward * 1.0,
        "input_grad": gradient * (1 - share),
        "weight_grad": gradient * share,
        "recompute": (role == Role.RECOMPUTE) * 1.0,
    }
    return {name: sums(layer, ms * part, count) for name, part in weights.items()}


def _add_children(values: NDArray[np.float64], trace: Trace) -> None:
    """Parents stand before their children, so one pass from the end adds everything up."""
    for index in range(len(trace.layers) - 1, -1, -1):
        parent = trace.layers[index].parent
        if parent >= 0:
            values[parent] += values[index]


def _optimizer_by_layer(trace: Trace, attribution: Attribution, times: Times) -> NDArray[np.float64]:
    """The optimizer's time given to layers: ops by the shape they work on, the rest by number of tensors."""
    found = np.zeros(len(trace.layers))
    owners: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, layer in enumerate(trace.layers):
        for shape in layer.parameter_shapes:
            owners[shape].append(index)
    tensors = np.array([float(len(layer.parameter_shapes)) for layer in trace.layers])
    if not tensors.sum():
        return found
    rows = attribution.rows[attribution.phase[attribution.rows] == Phase.OPTIMIZER]
    # Operators on lists name hundreds of shapes, and the same ones each time: each list is looked at once.
    known: dict[str, NDArray[np.float64]] = {"": np.zeros(len(trace.layers))}
    rest = 0.0
    for row in rows.tolist():
        work = int(attribution.work[row])
        shapes = trace.text(int(trace.events.shapes[work])) if work >= 0 else ""
        if shapes not in known:
            known[shapes] = _sizes_by_layer(_first_shapes(shapes), owners, len(trace.layers))
        sizes = known[shapes]
        total = sizes.sum()
        if total:
            found += times.ms[row] * sizes / total
        else:
            rest += float(times.ms[row])
    return found + rest * tensors / tensors.sum()


def _sizes_by_layer(
    shapes: tuple[tuple[int, ...], ...], owners: Mapping[tuple[int, ...], Sequence[int]], count: int
) -> NDArray[np.float64]:
    """Elements of these tensors by layer; layers with tensors of one shape share them alike."""
    sizes = np.zeros(count)
    for shape, times_named in Counter(shapes).items():
        for owner in owners.get(shape, ()):
            sizes[owner] += times_named * _elements(shape) / len(owners[shape])
    return sizes


def _elements(shape: tuple[int, ...]) -> float:
    return float(np.prod(shape, dtype=np.float64)) or 1.0


@lru_cache(maxsize=65536)
def _first_shapes(shapes: str) -> tuple[tuple[int, ...], ...]:
    """The tensors an op of the optimizer works on: its first input, or each tensor of its first list."""
    found = json.loads(shapes) if shapes else []
    first = found[0] if found else []
    if first and isinstance(first[0], list):
        return tuple(tuple(shape) for shape in first)
    return (tuple(first),) if first else ()


def _layer_calls(trace: Trace, times: Times, count: int) -> NDArray[np.float64]:
    known = trace.calls.layer >= 0
    return sums(trace.calls.layer[known], times.weight[trace.calls.row[known]], count)


def _layer_flops(trace: Trace, attribution: Attribution, times: Times, count: int) -> NDArray[np.float64]:
    found = np.zeros(count)
    for work in works_of(attribution, times).tolist():
        layer = int(attribution.layer[work])
        cost = cost_at(trace, work) if layer >= 0 else None
        if cost is not None and cost.flops is not None:
            found[layer] += cost.flops * times.weight[work]
    return found


def _by_layer(
    attribution: Attribution, works: NDArray[np.int64], values: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    here = works[(attribution.layer[works] >= 0) & ~np.isnan(values[works])]
    return sums(attribution.layer[here], values[here], count)


def works_of(attribution: Attribution, times: Times) -> NDArray[np.int64]:
    """Rows of the ops that do work in the steps that count."""
    rows = attribution.rows[times.weight[attribution.rows] > 0]
    return np.unique(attribution.work[rows][attribution.work[rows] >= 0])


def cost_at(trace: Trace, row: int) -> Cost | None:
    """FLOPs and bytes of the op at this row."""
    events = trace.events
    columns = (events.shapes, events.dtypes, events.concrete)
    shapes, dtypes, concrete = (trace.text(int(column[row])) for column in columns)
    return _cost(trace.name_of(row), shapes, dtypes, concrete)


@lru_cache(maxsize=65536)
def _cost(name: str, shapes: str, dtypes: str, concrete: str) -> Cost | None:
    if not shapes:
        return None
    return cost_of(
        name,
        json.loads(shapes),
        dtypes=json.loads(dtypes) if dtypes else (),
        concrete=json.loads(concrete) if concrete else (),
    )


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
