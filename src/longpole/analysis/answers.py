"""The questions people ask, answered from a study's own tables, each with its figures.

The same thresholds for every question: at least half of the step is a yes, less than a quarter a no, between
them partly. Where the interval of a share crosses a threshold, the answer is the more careful of the two.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from longpole.analysis.backward_parts import backward_parts, total_of
from longpole.analysis.study import Answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from longpole.analysis.study import LayerTime, PhaseTime, Study

HALF, QUARTER = 0.5, 0.25
TOLD = 0.005  # of the step: smaller parts have no say in what is known of all
SINGLE = 0.12  # of the step: below this no part stands out enough to be called the long pole
OUTSIDE_NETWORK = (
    "data",
    "transfer",
    "clip",
    "optimizer",
    "communication",
    "evaluation",
    "checkpoint",
    "other",
    "idle",
)
PHASE_WORDS = {
    "data": "waiting for DATA",
    "transfer": "TRANSFER of batches to the device",
    "clip": "gradient CLIPPING",
    "optimizer": "the OPTIMIZER",
    "communication": "COMMUNICATION",
    "evaluation": "EVALUATION",
    "checkpoint": "saving CHECKPOINTS",
    "other": "code OUTSIDE the training step's phases",
    "idle": "an IDLE device",
}
ROLE_WORDS = {"forward": "FORWARD", "input_grad": "INPUT GRADIENTS", "weight_grad": "WEIGHT GRADIENTS"}
MATMULS = ("matmul", "convolution", "attention", "recurrent")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the step that one fix could address. Parts do not overlap."""

    words: str
    ms: float
    where: str = ""


def parts_of(study: Study) -> list[Part]:
    """Phases outside the network, and inside it each group of like layers by role, longest first."""
    found = [
        Part(PHASE_WORDS[phase.phase], phase.ms, _best_site(phase))
        for phase in study.phases
        if phase.phase in PHASE_WORDS
    ]
    if study.layers:
        found += _network_parts(study)
    else:
        found += [
            Part(phase.phase.upper(), phase.ms) for phase in study.phases if phase.phase in ("forward", "backward")
        ]
    return sorted(found, key=lambda part: -part.ms)


def _best_site(phase: PhaseTime) -> str:
    if phase.sites and phase.sites[0].ms > HALF * phase.ms:
        return phase.sites[0].where
    return ""


def _network_parts(study: Study) -> list[Part]:
    places = {layer.layer: place_of(layer) for layer in study.layers}
    groups: dict[tuple[str, str], float] = defaultdict(float)
    for layer in study.layers:
        for role, ms in _roles(layer):
            groups[role, places[layer.layer]] += ms
    classes = _op_ms(study, places)
    parts = [Part(_words(*key, classes.get(key, {}), ms), ms) for key, ms in groups.items()]
    tops = [layer for layer in study.layers if layer.parent == -1]
    forward = sum(layer.forward_ms or 0.0 for layer in tops)
    backward = sum(layer.backward_ms or 0.0 for layer in tops)
    phases = {phase.phase: phase.ms for phase in study.phases}
    others = ", waiting for other ranks" if (study.run.world_size or 1) > 1 else ""
    engine = f"BACKWARD outside of any layer (the loss, the autograd engine{others})"
    outside = {
        "FORWARD and LOSS outside of any layer": phases.get("forward", 0.0) + phases.get("loss", 0.0) - forward,
        engine: phases.get("backward", 0.0) - backward,
    }
    return parts + [Part(words, ms) for words, ms in outside.items() if ms > 0]


def place_of(layer: LayerTime) -> str:
    """Like layers of different blocks are one place: `blocks.3.mlp.fc1` is of `blocks.*.mlp`."""
    parts = [re.sub(r"^\d+$", "*", part) for part in layer.layer.split(".")]
    if layer.container:
        return f"`{'.'.join(parts)}` itself" if layer.layer else f"the outermost module ({layer.type}) itself"
    if len(parts) > 2 and parts[-1] != "*":
        parts = parts[:-1]
    return f"`{'.'.join(parts)}`" if layer.layer else layer.type


def _roles(layer: LayerTime) -> Iterable[tuple[str, float]]:
    own = layer.container
    input_grad, weight_grad = (
        (layer.own_input_grad_ms, layer.own_weight_grad_ms) if own else (layer.input_grad_ms, layer.weight_grad_ms)
    )
    yield "forward", (layer.own_forward_ms if own else layer.forward_ms) or 0.0
    if input_grad is None or weight_grad is None:
        yield "backward", (layer.own_backward_ms if own else layer.backward_ms) or 0.0
        return
    yield "input_grad", input_grad
    yield "weight_grad", weight_grad


def _op_ms(study: Study, places: Mapping[str, str]) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """Milliseconds of ops by op class, for each role and group of layers."""
    totals: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for op in study.ops:
        if op.layer is not None and op.layer in places:
            totals[op.role, places[op.layer]][op.op_class] += op.ms
    return totals


def _words(role: str, place: str, classes: Mapping[str, float], ms: float) -> str:
    return f"{ROLE_WORDS.get(role, role.upper())} of {place}{_kind(classes, ms)}"


def _kind(classes: Mapping[str, float], ms: float) -> str:
    """What most of it is: one op class, or Python where ops are not even half; nothing where it is a mixture."""
    if not classes or sum(classes.values()) < HALF * ms:
        return " (mostly Python)"
    op_class, most = max(classes.items(), key=lambda item: item[1])
    return f" ({op_class.replace('_', ' ')})" if most > HALF * ms else ""


def headline_of(study: Study) -> str:
    """The sentence that names the long pole, or says that there is none."""
    parts = parts_of(study)
    step = study.step.wall_ms.mean
    if not parts or not step:
        return "No step was measured."
    top = parts[0]
    at = f", {top.where}" if top.where else ""
    said = f"{top.words}{at}, {_ms(top.ms)} of a {_ms(step)} step ({_percent(top.ms / step)})"
    if top.ms < SINGLE * step:
        return f"There is no single long pole. The largest part is {said}."
    level = _level_with(study, parts)
    return f"The long pole: {said}.{level}"


def _level_with(study: Study, parts: list[Part]) -> str:
    """Says so where the runner-up is within the noise of the first."""
    spread = study.step.wall_ms
    if len(parts) < 2 or not spread.median or spread.low is None or spread.high is None:
        return ""
    noise = (spread.high - spread.low) / spread.median / 2
    if parts[0].ms - parts[1].ms >= noise * (parts[0].ms + parts[1].ms):
        return ""
    return f" Level with it within the noise: {parts[1].words}, {_ms(parts[1].ms)}."


def answers_of(study: Study) -> list[Answer]:
    """The questions of the first screen, in their order."""
    phases = {phase.phase: phase for phase in study.phases}
    found = [_forward(study, phases), _backward(study, phases), _matmuls(study), _one_layer(study)]
    found += [_phase_answer(study, phases, "data", "Is it waiting for data?")]
    found += [_phase_answer(study, phases, "optimizer", "Is it the optimizer?"), _host(study), _one_fix(study)]
    return [answer for answer in found if answer is not None]


def verdict(share: float, low: float | None = None, high: float | None = None) -> str:
    """yes, partly or no; an interval that crosses a threshold makes it partly."""
    low, high = share if low is None else low, share if high is None else high
    if low >= HALF:
        return "yes"
    return "no" if high < QUARTER else "partly"


def _interval(study: Study, phase: PhaseTime) -> tuple[float | None, float | None]:
    step = study.step.wall_ms.mean
    if phase.low is None or phase.high is None or not step:
        return None, None
    return phase.low / step, phase.high / step


def _forward(study: Study, phases: Mapping[str, PhaseTime]) -> Answer | None:
    question = "Is it the forward pass?"
    if "forward" not in phases:
        return _unknown(question, "No forward pass was seen.")
    forward = phases["forward"]
    low, high = _interval(study, forward)
    sentence = _percent(forward.share)
    evidence: dict[str, Any] = {"forward_ms": forward.ms, "forward_share": forward.share}
    if "backward" in phases and forward.ms:
        ratio = phases["backward"].ms / forward.ms
        evidence["backward_to_forward"] = ratio
        sentence += f". Backward is {ratio:.2f} times forward"
    return Answer(question, verdict(forward.share, low, high), sentence + ".", evidence)


def _backward(study: Study, phases: Mapping[str, PhaseTime]) -> Answer | None:
    question = "Is it a component of the backward pass?"
    if "backward" not in phases:
        return _unknown(question, "No backward pass was seen.")
    backward = phases["backward"]
    found = backward_parts(study)
    parts = {
        "input gradients": found.input_grad_ms,
        "weight gradients": found.weight_grad_ms,
        "forward again": found.recompute_ms or None,
    }
    known = {name: ms for name, ms in parts.items() if ms is not None}
    if not known:
        sentence = f"Backward is {_percent(backward.share)}; its parts were not told apart."
        return Answer(question, "not known", sentence, {"backward_ms": backward.ms})
    other = backward.ms - sum(known.values())
    step = study.step.wall_ms.mean or 1.0
    name, ms = max(known.items(), key=lambda item: item[1])
    rest = ", ".join(f"{n} {_percent(v / step)}" for n, v in known.items())
    sentence = f"{rest}, the rest of backward {_percent(max(other, 0.0) / step)}."
    evidence = {f"{n.replace(' ', '_')}_ms": v for n, v in known.items()} | {"other_ms": other, "largest": name}
    return Answer(question, verdict(ms / step), sentence, evidence)


def _matmuls(study: Study) -> Answer | None:
    question = "Is it the matrix multiplications?"
    if not study.op_classes:
        return _unknown(question, "No step was recorded with its ops.")
    heavy = [entry for entry in study.op_classes if entry.op_class in MATMULS]
    ms, share = sum(entry.ms for entry in heavy), sum(entry.share for entry in heavy)
    names = " and ".join(entry.op_class for entry in heavy if entry.share > TOLD) or "none seen"
    sentence = f"{_percent(share)} of the time ({names})"
    evidence: dict[str, Any] = {"matmul_ms": ms, "matmul_share": share}
    flops = sum(entry.flops or 0.0 for entry in study.op_classes)
    if flops and all(entry.flops is not None for entry in heavy if entry.share > TOLD):
        evidence["flops_share"] = sum(entry.flops or 0.0 for entry in heavy) / flops
        sentence += f", {_percent(evidence['flops_share'])} of the FLOPs"
    bound = total_of(entry.bound_ms for entry in heavy)
    if bound and ms and all(entry.bound_ms is not None for entry in heavy if entry.share > TOLD):
        evidence["of_ceiling"] = bound / ms
        sentence += f"; they run at {_percent(bound / ms)} of this machine's ceiling"
    return Answer(question, verdict(share), sentence + ".", evidence)


def _one_layer(study: Study) -> Answer | None:
    question = "Is it one layer?"
    leaves = [layer for layer in study.layers if not layer.container and layer.share is not None]
    if not leaves:
        return _unknown(question, "No layers were seen: the script calls no modules, or they are compiled as one.")
    largest = max(leaves, key=lambda layer: layer.share or 0.0)
    name = f"`{largest.layer}`" if largest.layer else largest.type
    sentence = f"the largest of {len(leaves)}, {name}, is {_percent(largest.share or 0.0)}."
    return Answer(question, verdict(largest.share or 0.0), sentence, {"layer": largest.layer, "ms": largest.total_ms})


def _phase_answer(study: Study, phases: Mapping[str, PhaseTime], name: str, question: str) -> Answer:
    phase = phases.get(name)
    if phase is None:
        return Answer(question, "no", f"no time was seen in {name}.", {f"{name}_ms": 0.0})
    low, high = _interval(study, phase)
    where = _best_site(phase)
    sentence = _percent(phase.share) + (f", {where}" if where else "")
    return Answer(question, verdict(phase.share, low, high), sentence + ".", {f"{name}_ms": phase.ms})


def _host(study: Study) -> Answer | None:
    """Python and the dispatcher inside the network's own phases: data and logging have answers of their own."""
    question = "Is it Python and the dispatcher?"
    host = next((entry for entry in study.op_classes if entry.op_class == "host"), None)
    step = study.step.wall_ms.mean
    if host is None or not step:
        return _unknown(question, "No step was recorded with its ops.") if not study.op_classes else None
    inside = (host.forward_ms or 0.0) + (host.backward_ms or 0.0)
    sentence = f"{_percent(inside / step)} in forward and backward, {_percent(host.share)} of the whole step."
    return Answer(question, verdict(inside / step), sentence, {"host_ms": host.ms, "in_network_ms": inside})


def _one_fix(study: Study) -> Answer | None:
    """What a step would take if one part cost nothing."""
    question = "Could any one fix double the speed?"
    step = study.step.wall_ms.mean
    parts = parts_of(study)
    if not step or not parts:
        return None
    top = parts[0]
    best = step / max(step - top.ms, 1e-9)
    sentence = f"if {top.words} cost nothing, a step would be {best:.2f} times as fast."
    return Answer(question, "yes" if best >= 2 else "no", sentence, {"part": top.words, "at_most": best})


def _unknown(question: str, reason: str) -> Answer:
    return Answer(question, "not known", reason)


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.1f} %"


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"
