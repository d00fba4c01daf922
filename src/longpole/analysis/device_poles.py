"""What could be the long pole of a step on devices: every wait, and work by phase and sort, longest first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longpole.analysis.answers import SINGLE
from longpole.analysis.device_tables import idle_causes, sum_of
from longpole.analysis.device_words import a_, ms, percent
from longpole.trace import OpClass, Phase, Role, label

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.analysis.device_parts import Part, Whole

TIE = 0.8  # of two poles this close, the one with the simpler remedy is named first
HOST_CAUSES = ("launch", "host")
ROLE_WORDS = {Role.INPUT_GRAD: "INPUT GRADIENTS", Role.WEIGHT_GRAD: "WEIGHT GRADIENTS", Role.RECOMPUTE: "RECOMPUTED"}
WORK = "work"  # slug of poles that are no wait
COLLECTIVES = {
    "allreduce": "all-reduce",
    "allgather": "all-gather",
    "reducescatter": "reduce-scatter",
    "alltoall": "all-to-all",
    "sendrecv": "send and receive",
    "broadcast": "broadcast",
    "crossdevicereduce": "all-reduce",
    "dispatch": "dispatch",
    "combine": "combine",
}


@dataclass(frozen=True, slots=True)
class Pole:
    """One thing that a step could be without. Poles do not overlap."""

    slug: str  # "data", "synchronization", "communication", "host", "stream", "not_known", "work"
    words: str
    ms: float


def poles(whole: Whole) -> list[Pole]:
    """Everything that could be called the long pole, in the order of how simple the remedy is."""
    idle = dict(idle_causes(whole.parts))
    where: list[tuple[str, Callable[[], str], float]] = [
        ("data", lambda: _data_words(whole), _of_phase(whole, Phase.DATA)),
        ("synchronization", lambda: "SYNCHRONIZATION of host and device", idle.get("synchronization", 0.0)),
        ("communication", lambda: _communication_words(whole), _of_phase(whole, Phase.COMMUNICATION)),
        ("collective", lambda: "WAITING FOR OTHER RANKS on the host", idle.get("collective", 0.0)),
        ("host", lambda: _host_words(whole, idle), host_ms(whole)),
        ("stream", lambda: "WAITING OF ONE STREAM for another", idle.get("stream", 0.0)),
        ("not_known", lambda: "IDLENESS of the device that the trace does not explain", idle.get("not known", 0.0)),
    ]
    return [Pole(slug, words(), value) for slug, words, value in where if value > 0] + _work(whole)


def host_ms(whole: Whole) -> float:
    """Milliseconds of the step in which the device waits for the host to launch."""
    idle = dict(idle_causes(whole.parts))
    return sum(idle.get(cause, 0.0) for cause in HOST_CAUSES)


def _of_phase(whole: Whole, phase: Phase) -> float:
    return sum_of(part for part in whole.parts if part.phase is phase)


def _work(whole: Whole) -> list[Pole]:
    """Work by phase, role and op class."""
    sums: dict[tuple[Phase, Role, OpClass], float] = defaultdict(float)
    for part in whole.parts:
        if part.phase not in (Phase.IDLE, Phase.DATA, Phase.COMMUNICATION):
            sums[part.phase, _role(part), part.op_class] += part.ms
    ranked = sorted(sums.items(), key=lambda item: -item[1])
    return [Pole(WORK, _work_words(phase, role, op_class), value) for (phase, role, op_class), value in ranked]


def _role(part: Part) -> Role:
    """Roles of products and convolutions name a pole; those of small work would only split it."""
    return part.role if part.phase is Phase.BACKWARD and part.op_class is OpClass.MATMUL else Role.NONE


def _work_words(phase: Phase, role: Role, op_class: OpClass) -> str:
    kind = label(op_class).replace("_", " ") if op_class is not OpClass.SOFTMAX_LOSS else "softmax or loss"
    if op_class is OpClass.COLLECTIVE:  # the libraries' own have a phase to themselves
        return f"COMMUNICATION by kernels of the framework's own in {label(phase)}"
    if role in ROLE_WORDS:
        return f"{ROLE_WORDS[role]} ({kind})"
    if op_class is OpClass.HOST:
        return f"PYTHON AND THE DISPATCHER in {label(phase)}"
    return f"{kind.upper()} in {label(phase)}" if phase is not Phase.OTHER else f"{kind.upper()} (phase not known)"


def longest(found: list[Pole]) -> Pole | None:
    """The largest pole; of near ties the first in the list."""
    most = max((pole.ms for pole in found), default=0.0)
    return next((pole for pole in found if pole.ms >= TIE * most), None)


def headline(whole: Whole, unit: str) -> str:
    """The sentence that names the long pole and what the step would take without; `unit`: "step" or "recording"."""
    found = poles(whole)
    pole = longest(found)
    if pole is None or whole.step_ms <= 0:
        return ""
    said = f"{pole.words}, {ms(pole.ms)} of {a_(ms(whole.step_ms))} {unit} ({percent(pole.ms / whole.step_ms)})"
    if pole.ms < SINGLE * whole.step_ms:
        return f"There is no single long pole. The largest part is {said}."
    others = sorted((one for one in found if one is not pole), key=lambda one: -one.ms)
    following = ""
    if others and others[0].ms >= SINGLE * whole.step_ms:
        following = f" Next: {others[0].words}, {ms(others[0].ms)}."
    return f"The long pole: {said}; without it {ms(whole.step_ms - pole.ms)}.{following}"


def _data_words(whole: Whole) -> str:
    return "waiting for DATA" if whole.has_device else "fetching DATA"


def _communication_words(whole: Whole) -> str:
    exposed = "exposed " if whole.has_device else ""
    kind = main_collective(whole)
    return f"{exposed}COMMUNICATION ({kind})" if kind else f"{exposed}COMMUNICATION"


def _host_words(whole: Whole, idle: dict[str, float]) -> str:
    late = _late_phase(whole)
    often = f", mostly in {late}" if late else ""
    if idle.get("host", 0.0) > idle.get("launch", 0.0):
        return f"waiting for the HOST (it is at something else than launching{often})"
    return f"waiting for the HOST (it launches more slowly than the device works{often})"


def _late_phase(whole: Whole) -> str:
    """The phase before whose work the device waits longest for the host."""
    sums: dict[str, float] = defaultdict(float)
    for part in whole.parts:
        if part.op in {f"(idle: {cause})" for cause in HOST_CAUSES}:
            sums[part.site.removeprefix("before ")] += part.ms
    return max(sums, key=lambda key: sums[key], default="")


def custom_communication(whole: Whole) -> list[Part]:
    """Communication by kernels that belong to no library: it has the phase of its launch."""
    return [p for p in whole.parts if p.op_class is OpClass.COLLECTIVE and p.phase is not Phase.COMMUNICATION]


def main_collective(whole: Whole) -> str:
    """What most of the communication is: "all-reduce"."""
    sums: dict[str, float] = defaultdict(float)
    for part in (*(p for p in whole.parts if p.phase is Phase.COMMUNICATION), *custom_communication(whole)):
        sums[collective_name(part.op)] += part.ms
    return max(sums, key=lambda key: sums[key], default="")


def collective_name(op: str) -> str:
    """ "all-reduce" of `nccl:all_reduce`, `c10d::allreduce_`, `ncclDevKernel_AllReduce_Sum_f32_RING_LL`."""
    spelt = op.lower().replace("_", "")
    return next((name for word, name in COLLECTIVES.items() if word in spelt), "not named")
