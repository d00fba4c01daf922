"""Facts of a live run that are worth acting on, each with the most that acting could save. None is advice from a
rule: what a change really gains is for a second run to say (`longpole compare`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.analysis.study import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from longpole.analysis.study import OpClassTime, PhaseTime, Study

LEAST_SHARE = 0.05  # of the step: below this a finding is not worth a line
AT_MOST = "measured; at most"
# phase -> what is so about its time
SENTENCES = {
    "data": "The step waits for its batch{at}: work that needs no gradient and could be done while the network trains.",
    "evaluation": "Evaluation is {share} of the time of training{at}, spread over all steps.",
    "checkpoint": "Saving checkpoints is {share} of the time of training{at}, and training waits for it.",
    "other": "Code outside of the network and its update takes {share} of each step{at}.",
    "communication": "Waiting for other ranks takes {share} of each step{at}.",
}


def findings_of(study: Study) -> list[Finding]:
    """Largest saving first."""
    found = [*_phases(study), *_distance(study), *_host(study)]
    return sorted(found, key=lambda finding: -(finding.saving_ms or 0.0))


def _phases(study: Study) -> Iterator[Finding]:
    for phase in study.phases:
        if phase.phase in SENTENCES and phase.share >= LEAST_SHARE:
            sentence = SENTENCES[phase.phase].format(at=_at(phase), share=_percent(phase.share))
            yield Finding(phase.phase, sentence, phase.ms, AT_MOST)


def _at(phase: PhaseTime) -> str:
    return f" ({phase.sites[0].where})" if phase.sites else ""


def _distance(study: Study) -> Iterator[Finding]:
    """How far each class of ops is from the roofline, where the machine's ceilings are known."""
    for entry in study.op_classes:
        if entry.bound_ms is None or entry.op_class == "host" or not entry.ms:
            continue
        saving = max(entry.ms - entry.bound_ms, 0.0)
        if saving >= LEAST_SHARE * entry.ms / max(entry.share, 1e-9):
            yield Finding(f"distance-{entry.op_class}", _distance_sentence(entry, saving), saving, AT_MOST)


def _distance_sentence(entry: OpClassTime, saving: float) -> str:
    name = entry.op_class.replace("_", " ")
    at = _percent((entry.bound_ms or 0.0) / entry.ms)
    worth = _percent(saving / entry.ms * entry.share)
    return (
        f"Ops of class {name} run at {at} of this machine's ceiling; all of the distance is worth {worth} of the step."
    )


def _host(study: Study) -> Iterator[Finding]:
    """Python and the dispatcher inside the network: what larger batches, fusing or compiling could hide."""
    step = study.step.wall_ms.mean
    host = next((entry for entry in study.op_classes if entry.op_class == "host"), None)
    if host is None or not step:
        return
    inside = (host.forward_ms or 0.0) + (host.backward_ms or 0.0)
    if inside >= LEAST_SHARE * step:
        share = _percent(inside / step)
        sentence = f"Python and the dispatcher take {share} of the step inside the network: its ops are small."
        yield Finding("host", sentence, inside, AT_MOST)


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.1f} %"
