"""The tables of a study out of the parts of a step: phases, op classes, ops, layers."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from longpole.analysis.study import LayerTime, OpClassTime, OpTime, PhaseTime, Site
from longpole.trace import OpClass, Phase, Role, label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from longpole.analysis.device_parts import Part, Whole

MOST_SITES = 8
FORWARD = (Phase.FORWARD, Phase.LOSS)


def sum_of(parts: Iterable[Part]) -> float:
    return sum(part.ms for part in parts)


def phase_times(whole: Whole) -> list[PhaseTime]:
    """Phases in the order of the design; they sum to the step."""
    by_phase: dict[Phase, list[Part]] = defaultdict(list)
    for part in whole.parts:
        by_phase[Phase.OTHER if part.phase is Phase.NOBODY else part.phase].append(part)
    return [_phase_time(phase, by_phase[phase], whole) for phase in sorted(by_phase)]


def _phase_time(phase: Phase, parts: Sequence[Part], whole: Whole) -> PhaseTime:
    ms = sum_of(parts)
    return PhaseTime(
        phase=label(phase),
        ms=ms,
        share=_share(ms, whole.step_ms),
        sites=_sites(phase, parts),
        note=_note(phase, ms, parts, whole),
    )


def _sites(phase: Phase, parts: Iterable[Part]) -> list[Site]:
    sums: dict[str, float] = defaultdict(float)
    for part in parts:
        where = f"{part.op.strip('()')} {part.site}".strip() if phase is Phase.IDLE else part.site
        if where:
            sums[where] += part.ms
    ranked = sorted(sums.items(), key=lambda item: -item[1])[:MOST_SITES]
    return [Site(where, ms) for where, ms in ranked if ms > 0]


def _note(phase: Phase, ms: float, parts: Sequence[Part], whole: Whole) -> str:
    if phase is Phase.COMMUNICATION and whole.has_device:
        hidden = whole.communication_ms - ms
        return f"exposed; {hidden:.3g} ms more hidden behind compute" if hidden > 0.01 * ms else "all of it exposed"
    if phase is Phase.IDLE:
        return " · ".join(f"{name} {ms:.3g}" for name, ms in idle_causes(parts)[:4])
    if phase is Phase.DATA:
        idle = sum_of(p for p in parts if p.op.startswith("(idle"))
        return f"the device idle while the host fetches {idle:.3g} ms" if idle > 0.5 * ms else ""
    if phase is Phase.OTHER:
        early = sum_of(p for p in parts if p.early)
        return "launched before the recording began" if early > 0.5 * ms else ""
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
        )
        for (op, op_class, role, layer, shapes), parts in grouped.items()
    ]
    return sorted(rows, key=lambda row: -row.ms)


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
    containers = {path.rpartition(".")[0] for path in types}
    return [
        _layer_time(path, types[path], path in containers, inside[path], own.get(path, ()), whole.step_ms)
        for path in types
        if path in inside
    ]


def _layer_time(
    path: str, type_: str, container: bool, parts: Sequence[Part], own: Sequence[Part], step_ms: float
) -> LayerTime:
    total = sum_of(parts)
    backward = [p for p in parts if p.phase is Phase.BACKWARD]
    roles = {p.role for p in backward}
    return LayerTime(
        layer=path,
        type=type_,
        container=container,
        forward_ms=sum_of(p for p in parts if p.phase in FORWARD),
        backward_ms=sum_of(backward),
        input_grad_ms=_of_role(backward, Role.INPUT_GRAD, roles),
        weight_grad_ms=_of_role(backward, Role.WEIGHT_GRAD, roles),
        recompute_ms=_of_role(backward, Role.RECOMPUTE, roles),
        total_ms=total,
        share=_share(total, step_ms),
        own_ms=sum_of(own) if container else None,
    )


def _of_role(parts: Iterable[Part], role: Role, roles: set[Role]) -> float | None:
    """None where no part of the layer has a role that was told: it is not known, and not nothing."""
    return sum_of(p for p in parts if p.role is role) if role in roles else None


def _upwards(path: str) -> list[str]:
    pieces = path.split(".")
    return [".".join(pieces[:count]) for count in range(1, len(pieces) + 1)]


def _share(ms: float, whole: float) -> float:
    return ms / whole if whole > 0 else 0.0
