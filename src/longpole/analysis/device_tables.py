"""The tables of a study out of the parts of a step: phases, op classes, ops, layers."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_launches import Launched
from longpole.analysis.device_parts import sum_of_costs
from longpole.analysis.device_words import plain
from longpole.analysis.study import LayerTime, OpClassTime, OpTime, PhaseTime, Site
from longpole.trace import OpClass, Phase, Role, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from longpole.analysis.device_parts import Part, Whole

MOST_SITES = 8
MOST = 0.95  # of the time, whose cost must be known for a sum to be one
FORWARD = (Phase.FORWARD, Phase.LOSS)


def sum_of(parts: Iterable[Part]) -> float:
    return sum((part.ms for part in parts), 0.0)


def samples_of(parts: Iterable[Part]) -> list[float]:
    """Milliseconds in each step; none of a single step, of which there is nothing to compare."""
    steps = [part.by_step for part in parts]
    if not steps or len(steps[0]) < 2:
        return []
    return np.sum(steps, axis=0).tolist()


def phase_times(whole: Whole) -> list[PhaseTime]:
    """Phases in the order of the design; they sum to the step."""
    by_phase: dict[Phase, list[Part]] = defaultdict(list)
    for part in whole.parts:
        by_phase[part.phase].append(part)
    return [_phase_time(phase, by_phase[phase], whole) for phase in sorted(by_phase)]


def _phase_time(phase: Phase, parts: Sequence[Part], whole: Whole) -> PhaseTime:
    ms = sum_of(parts)
    return PhaseTime(
        phase=label(phase),
        ms=ms,
        share=_share(ms, whole.step_ms),
        sites=_sites(phase, parts),
        note=_note(phase, ms, parts, whole),
        samples=samples_of(parts),
    )


def _sites(phase: Phase, parts: Iterable[Part]) -> list[Site]:
    sums: dict[str, float] = defaultdict(float)
    for part in parts:
        where = f"{part.op[7:-1]} {part.site}".strip() if phase is Phase.IDLE else part.site
        if where:
            sums[where] += part.ms
    ranked = sorted(sums.items(), key=lambda item: -item[1])[:MOST_SITES]
    return [Site(where, ms) for where, ms in ranked if ms > 0]


def _note(phase: Phase, ms: float, parts: Sequence[Part], whole: Whole) -> str:
    notes: Mapping[Phase, Callable[[], str]] = {
        Phase.COMMUNICATION: lambda: _hidden(ms, whole),
        Phase.IDLE: lambda: " · ".join(f"{name} {plain(ms)}" for name, ms in idle_causes(parts)[:4]),
        Phase.DATA: lambda: _idle_for_data(ms, parts),
        Phase.BACKWARD: lambda: _recomputed(parts),
        Phase.OTHER: lambda: _unlaunched(ms, parts),
    }
    return notes[phase]() if phase in notes else ""


def _hidden(ms: float, whole: Whole) -> str:
    if not whole.has_device:
        return ""
    hidden = whole.communication_ms - ms
    return f"exposed; {plain(hidden)} more hidden behind compute" if hidden > 0.01 * ms else "all of it exposed"


def _idle_for_data(ms: float, parts: Sequence[Part]) -> str:
    idle = sum_of(p for p in parts if p.op.startswith("(idle"))
    return "the device is idle while the host fetches" if idle > 0.5 * ms else ""


def _recomputed(parts: Sequence[Part]) -> str:
    """Backward's roles, where forward runs again in it; without that, the report splits it itself."""
    roles = {role: sum_of(p for p in parts if p.role is role) for role in Role}
    if roles[Role.RECOMPUTE] <= 0:
        return ""
    told = [(Role.INPUT_GRAD, "input gradients"), (Role.WEIGHT_GRAD, "weight gradients")]
    named = [f"{name} {plain(roles[role])}" for role, name in [*told, (Role.RECOMPUTE, "forward again")]]
    return " · ".join([*named, f"other {plain(roles[Role.NONE])}"])


def _unlaunched(ms: float, parts: Sequence[Part]) -> str:
    for launched, said in (
        (Launched.BEFORE, "launched before the recording began"),
        (Launched.LOST, "launch not recorded"),
    ):
        lost = sum_of(p for p in parts if p.launched is launched)
        if lost > 0.5 * ms:
            return said
    return ""


def idle_causes(parts: Iterable[Part]) -> list[tuple[str, float]]:
    """Causes of idleness with their ms, the largest first."""
    sums: dict[str, float] = defaultdict(float)
    for part in parts:
        if part.op.startswith("(idle: "):
            sums[part.op[7:-1]] += part.ms
    return sorted(sums.items(), key=lambda item: -item[1])


def op_class_times(whole: Whole) -> list[OpClassTime]:
    """Op classes, the largest first; idleness is `host`, so that they sum to the step."""
    by_class: dict[OpClass, list[Part]] = defaultdict(list)
    for part in whole.parts:
        by_class[part.op_class].append(part)
    rows = [
        OpClassTime(
            op_class=label(op_class),
            ms=sum_of(parts),
            share=_share(sum_of(parts), whole.step_ms),
            forward_ms=sum_of(p for p in parts if p.phase in FORWARD),
            backward_ms=sum_of(p for p in parts if p.phase is Phase.BACKWARD),
            calls=sum(p.calls for p in parts),
            samples=samples_of(parts),
            **_cost_columns(parts),
        )
        for op_class, parts in by_class.items()
    ]
    return sorted(rows, key=lambda row: -row.ms)


def op_times(whole: Whole) -> list[OpTime]:
    """Ops by name, class, role, layer and shapes, the largest first; they sum to the step."""
    grouped: dict[tuple[str, OpClass, Role, str | None, str | None], list[Part]] = defaultdict(list)
    for part in whole.parts:
        grouped[part.op, part.op_class, part.role, part.layer, part.shapes].append(part)
    rows = [
        OpTime(
            op=op,
            op_class=label(op_class),
            role=label(role),
            layer=layer,
            shapes=shapes,
            ms=sum_of(parts),
            calls=sum(p.calls for p in parts),
            samples=samples_of(parts),
            of_ceiling=_of_ceiling(parts),
            **_cost_columns(parts),
        )
        for (op, op_class, role, layer, shapes), parts in grouped.items()
    ]
    return sorted(rows, key=lambda row: -row.ms)


def _cost_columns(parts: Sequence[Part]) -> dict[str, float | None]:
    """FLOPs, bytes and bound of the parts; None where the costs of some of them are not known."""
    costs, least = sum_of_costs([part.costs for part in parts]), MOST * sum_of(parts)
    known, bounded = costs.known_ms > 0 and costs.known_ms >= least, 0 < least <= costs.bounded_ms
    return {
        "flops": costs.flops if known else None,
        "bytes": costs.bytes_moved if known else None,
        "bound_ms": costs.bound_ms if bounded else None,
    }


def _of_ceiling(parts: Sequence[Part]) -> float | None:
    """The least time over the time taken, of the work that has a bound."""
    costs = sum_of_costs([part.costs for part in parts])
    return costs.bound_ms / costs.bounded_ms if costs.bounded_ms > 0 else None


def layer_times(whole: Whole, types: Mapping[str, str]) -> list[LayerTime]:
    """Every layer with work, and the modules round it; containers count what is inside them.

    `types` gives the type of each path, in the order of first call. Leaves and `own_ms` of containers sum to what
    has a layer.
    """
    own: dict[str, list[Part]] = defaultdict(list)
    for part in whole.parts:
        if part.layer is not None:
            own[part.layer].append(part)
    inside: dict[str, list[Part]] = defaultdict(list)
    for path, parts in own.items():
        for above in _upwards(path):
            inside[above] += parts
    shown = [path for path in types if path in inside]
    containers = {path.rpartition(".")[0] for path in shown}
    place = {path: index for index, path in enumerate(shown)}
    found = [_layer_time(path, types[path], inside[path], whole.step_ms) for path in shown]
    for layer in found:
        layer.parent = place.get(layer.layer.rpartition(".")[0], -1)
        if layer.layer in containers:
            mine = own.get(layer.layer, [])
            layer.container = True
            layer.own_ms = sum_of(mine)
            layer.own_forward_ms = sum_of(p for p in mine if p.phase in FORWARD)
            layer.own_backward_ms = sum_of(p for p in mine if p.phase is Phase.BACKWARD)
    return found


def _layer_time(path: str, type_: str, parts: Sequence[Part], step_ms: float) -> LayerTime:
    total, costs = sum_of(parts), _cost_columns(parts)
    backward = [p for p in parts if p.phase is Phase.BACKWARD]
    roles = {p.role for p in backward}
    return LayerTime(
        layer=path,
        type=type_,
        forward_ms=sum_of(p for p in parts if p.phase in FORWARD),
        backward_ms=sum_of(backward),
        input_grad_ms=_of_role(backward, Role.INPUT_GRAD, roles),
        weight_grad_ms=_of_role(backward, Role.WEIGHT_GRAD, roles),
        recompute_ms=_of_role(backward, Role.RECOMPUTE, roles),
        total_ms=total,
        share=_share(total, step_ms),
        samples=samples_of(parts),
        flops=costs["flops"],
        bound_ms=costs["bound_ms"],
    )


def _of_role(parts: Iterable[Part], role: Role, roles: set[Role]) -> float | None:
    """None where no part of the layer has a role that was told: it is not known, and not nothing."""
    return sum_of(p for p in parts if p.role is role) if role in roles else None


def _upwards(path: str) -> list[str]:
    pieces = path.split(".")
    return [".".join(pieces[:count]) for count in range(1, len(pieces) + 1)]


def _share(ms: float, whole: float) -> float:
    return ms / whole if whole > 0 else 0.0
