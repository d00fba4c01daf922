"""The questions of the first screen, answered for traces: those of a live run, and what devices wait for.

Work is a yes from half of the step on, as in a live run. A wait is pure loss: it is a yes from 15 % on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.analysis.answers import answers_of
from longpole.analysis.device_poles import custom_communication, host_ms, main_collective, poles
from longpole.analysis.device_tables import idle_causes, sum_of
from longpole.analysis.device_words import ms, percent
from longpole.analysis.study import Answer, Finding
from longpole.trace import Phase

if TYPE_CHECKING:
    from longpole.analysis.device_parts import Whole
    from longpole.analysis.study import Study

YES, PARTLY = 0.15, 0.05  # of the step, lost to one wait
FROM_A_LIVE_RUN = (
    "Is it the forward pass?",
    "Is it a component of the backward pass?",
    "Is it the matrix multiplications?",
)
LAYER = "Is it one layer?"
DISPATCHER = "Is it Python and the dispatcher?"
# slug of a wait -> (what it costs, what is tried against it)
ADVICE = {
    "data": "The step waits for data: more DataLoader workers, pinned memory and prefetching hide it.",
    "synchronization": "The host waits for the device (.item(), copies to the host) and lets its queue run dry.",
    "communication": "Collectives are not covered by compute: overlap them, use larger buckets or fewer bytes.",
    "host": "The host launches too slowly: torch.compile, CUDA graphs, larger batches or fewer small ops.",
}
ELSEWHERE = (
    "The host is at something else for over half a millisecond at a time, and the device waits (what it is at: the "
    "table of idleness): take it out of the step, or let another thread or process do it."
)


def answers(study: Study, whole: Whole, unit: str, why_no_layers: str) -> list[Answer]:
    """Every question once; `study` has its tables filled in."""
    known = {answer.question: _of_peaks(answer) for answer in answers_of(study)}
    asked = [known[question] for question in FROM_A_LIVE_RUN if question in known]
    asked.append(Answer(LAYER, "not known", why_no_layers) if why_no_layers else known[LAYER])
    asked.append(_data(whole, unit))
    if whole.has_device:
        asked += [_host(whole, unit), _communication(whole, unit)]
    elif DISPATCHER in known:
        asked.append(known[DISPATCHER])
    return [*asked, _double(whole, unit)]


def _of_peaks(answer: Answer) -> Answer:
    """The same answer in words of traces: FLOPs as far as shapes tell them, and peaks of a data sheet."""
    if answer.sentence == "No backward pass was seen.":
        return Answer(answer.question, "no", "nothing was differentiated in this recording.", answer.evidence)
    said = answer.sentence.replace("this machine's ceiling", "the data-sheet peak of the device")
    answer.sentence = said.replace("of the FLOPs", "of the FLOPs that are known")
    return answer


def _wait(question: str, what: str, lost_ms: float, whole: Whole, unit: str, more: str = "") -> Answer:
    share = lost_ms / whole.step_ms if whole.step_ms > 0 else 0.0
    answer = "yes" if share >= YES else "partly" if share >= PARTLY else "no"
    left = whole.step_ms - lost_ms
    sentence = f"{what} {ms(lost_ms)} of a {unit} ({percent(share)})"
    if answer != "no":
        sentence += f"; without that it takes {ms(left)}"
    return Answer(
        question,
        answer,
        f"{sentence}.{more}",
        {"ms": lost_ms, "share": share, "saving_ms": lost_ms, "without_ms": left},
    )


def _data(whole: Whole, unit: str) -> Answer:
    data = sum_of(p for p in whole.parts if p.phase is Phase.DATA)
    what = "the device is idle while the host fetches data," if whole.has_device else "the host fetches data,"
    if data <= 0:
        return Answer(
            "Is it waiting for data?", "no", f"nothing waits for data in a {unit}.", {"ms": 0.0, "share": 0.0}
        )
    return _wait("Is it waiting for data?", what, data, whole, unit)


def _host(whole: Whole, unit: str) -> Answer:
    lost = dict(idle_causes(whole.parts)).get("not known", 0.0)
    more = f" The trace does not explain {ms(lost)} of idleness." if lost >= 0.01 * whole.step_ms else ""
    return _wait("Is it the host?", "the device waits for launches,", host_ms(whole), whole, unit, more)


def _communication(whole: Whole, unit: str) -> Answer:
    question = "Is it communication?"
    custom = sum_of(custom_communication(whole))
    if whole.communication_ms <= 0 and custom <= 0:
        return Answer(question, "no", "the trace has no collective.", {"ms": 0.0, "share": 0.0})
    exposed = sum_of(p for p in whole.parts if p.phase is Phase.COMMUNICATION)
    hidden = whole.communication_ms - exposed
    more = f" {ms(hidden)} more are hidden behind compute." if hidden >= 0.005 * whole.step_ms else ""
    if custom > 0:
        more += f" {ms(custom)} of it are kernels of the framework's own, which the timeline counts as compute."
    return _wait(question, f"collectives ({main_collective(whole)}) are exposed,", exposed + custom, whole, unit, more)


def _double(whole: Whole, unit: str) -> Answer:
    question = "Could any one fix double the speed?"
    found = poles(whole)
    if not found or whole.step_ms <= 0:
        return Answer(question, "not known", "nothing was recorded.")
    pole = max(found, key=lambda one: one.ms)
    left = whole.step_ms - pole.ms
    factor = whole.step_ms / left if left > 0 else float("inf")
    times = (
        f"{factor:.2f}" if factor < 10 else f"over {10 ** (len(str(int(factor))) - 1)}" if factor < 1e6 else "very many"
    )
    sentence = f"if {pole.words} cost nothing, a {unit} would be {times} times as fast, {ms(max(left, 0.0))}."
    evidence = {"part": pole.words, "at_most": factor if factor < 1e6 else None, "without_ms": left}
    return Answer(question, "yes" if factor >= 2 else "no", sentence, evidence)


def findings(whole: Whole) -> list[Finding]:
    """Each wait that costs something, with what it costs at most; the largest first."""
    idle = dict(idle_causes(whole.parts))
    elsewhere = idle.get("host", 0.0) > idle.get("launch", 0.0)
    advice = {**ADVICE, "host": ELSEWHERE} if elsewhere else ADVICE
    found = [
        Finding(slug=pole.slug, sentence=advice[pole.slug], saving_ms=pole.ms, confidence="at most")
        for pole in poles(whole)
        if pole.slug in ADVICE and pole.ms >= PARTLY * whole.step_ms
    ]
    return sorted(found, key=lambda one: -(one.saving_ms or 0.0))
