"""What a study of device work says in words: the long pole, the answers, and what the step would take without."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longpole.analysis.device_tables import idle_causes, sum_of
from longpole.analysis.study import Answer, Finding
from longpole.trace import OpClass, Phase, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.device_parts import Part, Whole

YES, PARTLY = 0.15, 0.05  # of the step: what waits for one thing
MOSTLY = 0.5  # of the step: what one sort of work takes
TIE = 0.8  # of two poles this close, the one with the simpler remedy is named first
SMALL = 0.15  # of the step: nothing under this is a long pole
HOST_CAUSES = ("launch", "host")


@dataclass(frozen=True, slots=True)
class Pole:
    """One thing that the step could be without."""

    slug: str
    name: str  # as the headline shouts it
    ms: float
    detail: str = ""


def waits(whole: Whole) -> dict[str, float]:
    """Milliseconds of the step that the device is idle, by cause."""
    return dict(idle_causes(whole.parts))


def poles(whole: Whole) -> list[Pole]:
    """Everything that could be called the long pole; waits, in order of remedy, come before work."""
    idle = waits(whole)
    data = sum_of(p for p in whole.parts if p.phase is Phase.DATA)
    exposed = sum_of(p for p in whole.parts if p.phase is Phase.COMMUNICATION)
    host = sum(idle.get(cause, 0.0) for cause in HOST_CAUSES)
    found = [
        Pole("data", "WAITING FOR DATA", data, _top_site(whole, Phase.DATA)),
        Pole("synchronization", "SYNCHRONIZATION of host and device", idle.get("synchronization", 0.0)),
        Pole("communication", "EXPOSED COMMUNICATION", exposed, _collectives(whole)),
        Pole("host", "THE HOST, which launches work more slowly than the device does it", host, _late_phase(whole)),
        Pole("stream", "WAITING BETWEEN STREAMS", idle.get("stream", 0.0)),
        Pole("not_known", "IDLENESS that the trace does not explain", idle.get("not known", 0.0)),
    ]
    return found + _work(whole)


def _work(whole: Whole) -> list[Pole]:
    """Work by phase and op class."""
    sums: dict[tuple[Phase, OpClass], float] = defaultdict(float)
    for part in whole.parts:
        if part.phase not in (Phase.IDLE, Phase.DATA, Phase.COMMUNICATION):
            sums[part.phase, part.op_class] += part.ms
    return [
        Pole(f"{label(phase)}_{label(op_class)}", _work_name(phase, op_class), ms)
        for (phase, op_class), ms in sums.items()
    ]


def _work_name(phase: Phase, op_class: OpClass) -> str:
    kind = label(op_class).upper().replace("_", " ")
    where = {Phase.OTHER: "", Phase.NOBODY: ""}.get(phase, f" in {label(phase)}")
    return f"{kind} work{where}" if op_class is not OpClass.HOST else f"HOST work{where}"


def longest(whole: Whole) -> Pole | None:
    """The largest pole; of near ties the first in the list."""
    found = poles(whole)
    most = max((pole.ms for pole in found), default=0.0)
    return next((pole for pole in found if pole.ms >= TIE * most and most > 0), None)


def headline(whole: Whole, unit: str) -> str:
    """The sentence that names the long pole; `unit` is what the parts are of: "step" or "recording"."""
    pole = longest(whole)
    if pole is None or whole.step_ms <= 0:
        return ""
    share = pole.ms / whole.step_ms
    if share < SMALL:
        return f"No single long pole: the largest part, {pole.name}, is {share:.0%} of the {unit}."
    detail = f" ({pole.detail})" if pole.detail else ""
    return (
        f"The long pole: {pole.name}{detail}, {ms(pole.ms)} of a {ms(whole.step_ms)} {unit} ({share:.0%}); "
        f"without it: {ms(whole.step_ms - pole.ms)}."
    )


def ms(value: float) -> str:
    """Three digits and the unit."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def answers(whole: Whole, unit: str, why_no_layers: str) -> list[Answer]:
    """The questions of the design, and those of devices, answered from the parts."""
    asked = [_data(whole, unit), _layer(whole, why_no_layers)]
    if whole.has_device:
        asked[1:1] = [_host(whole, unit), _communication(whole, unit)]
    asked[-1:-1] = [_forward(whole), _matmuls(whole)]
    return [*asked, _double(whole, unit)]


def _wait_answer(question: str, what: str, pole_ms: float, whole: Whole, unit: str, more: str) -> Answer:
    share = pole_ms / whole.step_ms if whole.step_ms > 0 else 0.0
    answer = "yes" if share >= YES else "partly" if share >= PARTLY else "no"
    left = whole.step_ms - pole_ms
    sentence = f"{answer.capitalize()}: {what} {ms(pole_ms)} ({share:.1%})"
    sentence += f"; without it, a {unit} takes {ms(left)}." if answer != "no" else "."
    evidence = {"ms": pole_ms, "share": share, "without_ms": left}
    return Answer(question, answer, f"{sentence} {more}".strip(), evidence)


def _data(whole: Whole, unit: str) -> Answer:
    data = sum_of(p for p in whole.parts if p.phase is Phase.DATA)
    who = "the device waits for data" if whole.has_device else "the host fetches data"
    return _wait_answer("Is it waiting for data?", who, data, whole, unit, "")


def _host(whole: Whole, unit: str) -> Answer:
    idle = waits(whole)
    host = sum(idle.get(cause, 0.0) for cause in HOST_CAUSES)
    more = " ".join(filter(None, [_unknown_idle(idle)]))
    return _wait_answer("Is it the host?", "the device waits for launches", host, whole, unit, more)


def _unknown_idle(idle: dict[str, float]) -> str:
    lost = idle.get("not known", 0.0)
    return f"{ms(lost)} of idleness have no known cause." if lost > 0 else ""


def _communication(whole: Whole, unit: str) -> Answer:
    exposed = sum_of(p for p in whole.parts if p.phase is Phase.COMMUNICATION)
    if whole.communication_ms <= 0:
        return Answer("Is it communication?", "no", "No: the trace has no collective.", {"ms": 0.0, "share": 0.0})
    hidden = whole.communication_ms - exposed
    more = f"{_collectives(whole).capitalize()}; {ms(hidden)} more are hidden behind compute."
    return _wait_answer("Is it communication?", "exposed collectives take", exposed, whole, unit, more)


def _forward(whole: Whole) -> Answer:
    forward = sum_of(p for p in whole.parts if p.phase is Phase.FORWARD)
    backward = sum_of(p for p in whole.parts if p.phase is Phase.BACKWARD)
    question = "Is it the forward pass?"
    if forward <= 0 and backward <= 0:
        return Answer(question, "not known", "Not known: nothing in the trace says which work is forward.")
    share = forward / whole.step_ms
    answer = "yes" if share >= MOSTLY else "no"
    ratio = f" Backward is {backward / forward:.2f} times forward." if forward > 0 and backward > 0 else ""
    ratio = ratio or (" There is no backward pass." if backward <= 0 else "")
    sentence = f"{answer.capitalize()}: {share:.1%}.{ratio}"
    return Answer(question, answer, sentence, {"forward_ms": forward, "backward_ms": backward})


def _matmuls(whole: Whole) -> Answer:
    matmul = sum_of(p for p in whole.parts if p.op_class in (OpClass.MATMUL, OpClass.ATTENTION))
    convolution = sum_of(p for p in whole.parts if p.op_class is OpClass.CONVOLUTION)
    share = matmul / whole.step_ms if whole.step_ms > 0 else 0.0
    answer = "yes" if share >= MOSTLY else "partly" if share >= 0.25 else "no"
    said = {"yes": "Mostly", "partly": "Partly", "no": "No"}[answer]
    sentence = f"{said}: matmuls and attention are {share:.1%}"
    sentence += f", convolutions {convolution / whole.step_ms:.1%}." if convolution > 0 else "."
    return Answer("Is it the matrix multiplications?", answer, sentence, {"ms": matmul, "share": share})


def _layer(whole: Whole, why_not: str) -> Answer:
    question = "Is it one layer?"
    sums: dict[str, float] = defaultdict(float)
    for part in whole.parts:
        if part.layer is not None:
            sums[part.layer] += part.ms
    if not sums:
        return Answer(question, "not known", f"Not known. {why_not}".strip())
    name, most = max(sums.items(), key=lambda item: item[1])
    share = most / whole.step_ms
    answer = "yes" if share >= MOSTLY else "no"
    sentence = f"{answer.capitalize()}: the largest, {name}, is {share:.1%}."
    return Answer(question, answer, sentence, {"layer": name, "ms": most, "share": share})


def _double(whole: Whole, unit: str) -> Answer:
    pole = max(poles(whole), key=lambda one: one.ms)
    left = whole.step_ms - pole.ms
    factor = whole.step_ms / left if left > 0 else float("inf")
    answer = "yes" if factor >= 2 else "no"
    sentence = f"{answer.capitalize()}: the most is {pole.name.lower()}; if it cost nothing, the {unit} would take "
    sentence += f"{ms(left)} ({factor:.2g}x)." if left > 0 else "no time."
    evidence = {"slug": pole.slug, "ms": pole.ms, "without_ms": left}
    return Answer("Could any one fix double it?", answer, sentence, evidence)


def findings(whole: Whole) -> list[Finding]:
    """What would make it faster: each wait with what it costs, the largest first."""
    advice = {
        "data": "The device waits for data: more DataLoader workers, pinned memory, prefetching.",
        "synchronization": "Reads of values by the host (.item(), copies to the host) drain the device's queue.",
        "communication": "Collectives are not covered by compute: overlap, larger buckets, fewer bytes.",
        "host": "The host launches too slowly: torch.compile, CUDA graphs, larger batches, fewer small ops.",
    }
    found = [
        Finding(slug=pole.slug, sentence=advice[pole.slug], saving_ms=pole.ms, confidence="upper bound")
        for pole in poles(whole)
        if pole.slug in advice and pole.ms >= PARTLY * whole.step_ms > 0
    ]
    return sorted(found, key=lambda one: -(one.saving_ms or 0.0))


def _top_site(whole: Whole, phase: Phase) -> str:
    named = [p for p in whole.parts if p.phase is phase and p.site and not p.op.startswith("(idle")]
    return max(named, key=lambda p: p.ms).site if named else ""


def _collectives(whole: Whole) -> str:
    sums: dict[str, float] = defaultdict(float)
    for part in whole.parts:
        if part.phase is Phase.COMMUNICATION:
            sums[collective_name(part.op)] += part.ms
    ranked = sorted(sums.items(), key=lambda item: -item[1])
    return f"mostly {ranked[0][0]}" if ranked else ""


def collective_name(op: str) -> str:
    """ "all-reduce" of `nccl:all_reduce`, `c10d::allreduce_`, `ncclDevKernel_AllReduce_Sum_f32_RING_LL`."""
    plain = op.lower().replace("_", "")
    known = {
        "allreduce": "all-reduce",
        "allgather": "all-gather",
        "reducescatter": "reduce-scatter",
        "alltoall": "all-to-all",
        "broadcast": "broadcast",
        "sendrecv": "send and receive",
    }
    return next((name for word, name in known.items() if word in plain), op)


def _late_phase(whole: Whole) -> str:
    """In which phase the device waits longest for launches."""
    sums: dict[str, float] = defaultdict(float)
    for part in _idle_of_host(whole.parts):
        sums[part.site.removeprefix("before ")] += part.ms
    name = max(sums, key=lambda key: sums[key], default="")
    return f"mostly in {name}" if name else ""


def _idle_of_host(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.op in {f"(idle: {cause})" for cause in HOST_CAUSES}]
