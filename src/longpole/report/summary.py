"""What a report says of a study, as plain data: the subject, the step, the split of backward, the ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from longpole.analysis.backward_parts import backward_parts
from longpole.report.figures import byte_size, count, decimals_for, known, ms, number, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from longpole.analysis.study import Answer, Gap, PhaseTime, Rank, Study

UNEVEN = 0.05  # mean and median further apart than this are both worth saying
MULTIPLYING = ("matmul", "convolution", "attention", "recurrent")


@dataclass(frozen=True, slots=True)
class BackwardSplit:
    """What backward is made of, ms a step; `other_ms` closes the sum and is None where it cannot."""

    input_grad_ms: float
    weight_grad_ms: float
    recompute_ms: float | None
    other_ms: float | None


def subject(study: Study) -> str:
    """One line: what was measured, on what, and how many steps."""
    run, steps = study.run, study.run.steps
    parts = ["longpole", run.script or "", run.model or _parameters(run.parameters)]
    parts.append(f"batch {run.batch_size}" if run.batch_size is not None else "")
    parts.append(run.device or "")
    parts.append(f"{run.world_size} ranks" if run.world_size is not None and run.world_size > 1 else "")
    parts.append(_step_counts(steps.measured, steps.seen))
    return " · ".join(part for part in parts if part)


def _parameters(parameters: int | None) -> str:
    return f"{count(parameters)} parameters" if parameters is not None else ""


def _step_counts(measured: int, seen: int) -> str:
    if seen <= 0:
        return ""
    return f"{measured} of {seen} steps measured" if measured > 0 else f"{seen} steps"


def whole_ms(study: Study) -> float | None:
    """What the phases are parts of: the mean step, else the median, else their own sum."""
    for value in (study.step.wall_ms.mean, study.step.wall_ms.median):
        if known(value):
            return value
    sums = [phase.ms for phase in study.phases if known(phase.ms)]
    return sum(sums) if sums else None


def whole_flops(study: Study) -> float:
    """FLOPs of the step; 0 where those of most multiplying are not known: shares of the rest would mislead."""
    heavy = [c for c in study.op_classes if c.op_class in MULTIPLYING and known(c.ms)]
    if sum(c.ms for c in heavy if c.flops is None) > sum(c.ms for c in heavy if c.flops is not None):
        return 0.0
    return sum(c.flops for c in study.op_classes if c.flops is not None and known(c.flops))


def step_items(study: Study) -> list[str]:
    """The step in a few items: time with interval, rate, how much has a name, what measuring cost."""
    step, wall = study.step, study.step.wall_ms
    middle = wall.median if known(wall.median) else wall.mean
    places = decimals_for(middle)
    items = [ms(middle, places) if known(middle) else "time not known"]
    if known(wall.low) and known(wall.high):
        items[0] += f"  ({number(wall.low, places)} to {number(wall.high, places)})"
    if known(step.samples_per_s):
        items.append(f"{number(step.samples_per_s)} samples/s")
    if known(step.accounted_share):
        items.append(f"{percent(step.accounted_share)} accounted for")
    items.append(f"probe {percent(step.probe_share)}" if known(step.probe_share) else "probe not known")
    return items


def uneven(study: Study) -> str:
    """A sentence where mean and median of the step differ much; "" where they do not."""
    mean, median = study.step.wall_ms.mean, study.step.wall_ms.median
    if mean is None or median is None or not (known(mean) and known(median)) or median <= 0:
        return ""
    if abs(mean - median) <= UNEVEN * median:
        return ""
    some = "slow" if mean > median else "fast"
    rare = [phase.phase for phase in study.phases if _is_rare(phase, mean - median)]
    who = f"{' and '.join(rare).capitalize()} in some of the steps" if rare else f"A few {some} steps"
    pull = "pulls" if len(rare) == 1 else "pull"
    return f"{who} {pull} the mean to {ms(mean)}; the parts below are of the mean."


def _is_rare(phase: PhaseTime, excess_ms: float) -> bool:
    """Whether most steps do without this phase, and it makes up much of what lifts the mean over the median."""
    none = sum(value == 0 for value in phase.samples)
    return none > len(phase.samples) / 2 and phase.ms > excess_ms / 3 > 0


def backward_split(study: Study) -> BackwardSplit | None:
    """Input and weight gradients and what is computed again; None where they were not told apart."""
    phase_ms = next((p.ms for p in study.phases if p.phase == "backward" and known(p.ms)), None)
    parts = backward_parts(study)
    inputs, weights = _known(parts.input_grad_ms), _known(parts.weight_grad_ms)
    if inputs is None or weights is None:
        return None
    again = _known(parts.recompute_ms)
    other = phase_ms - inputs - weights - (again or 0.0) if phase_ms is not None else None
    return BackwardSplit(inputs, weights, again, other if other is not None and other >= 0 else None)


def _known(value: float | None) -> float | None:
    return value if value is not None and known(value) else None


def phase_note(study: Study, phase: PhaseTime, decimals: int | None) -> str:
    """What stands beside a phase: its own note, the split of backward, or the line that costs most."""
    if phase.note:
        return phase.note
    split = backward_split(study) if phase.phase == "backward" else None
    if split is not None:
        text = f"input gradients {number(split.input_grad_ms, decimals)}"
        text += f" · weight gradients {number(split.weight_grad_ms, decimals)}"
        text += f" · forward again {number(split.recompute_ms, decimals)}" if split.recompute_ms else ""
        return text + (f" · other {number(split.other_ms, decimals)}" if split.other_ms is not None else "")
    sites = sorted((site for site in phase.sites if known(site.ms)), key=lambda site: -site.ms)
    return sites[0].where if sites else ""


ANSWERS = {"yes": "Yes", "no": "No", "partly": "Partly", "not known": "Not known"}


def answer_text(answer: Answer) -> str:
    """The answer in a word and its sentence, where the sentence does not begin with such a word itself."""
    word = ANSWERS.get(answer.answer, answer.answer)
    if not answer.sentence or answer.sentence.partition(":")[0] in {*ANSWERS.values(), "Mostly"}:
        return answer.sentence or word
    return f"{word}: {answer.sentence}"


def probe_text(share: float) -> str:
    """What the deepest level cost its own steps; less than nothing is noise, and said to be."""
    if share < 0:
        return f"What the deepest level cost its own steps is less than the noise ({percent(share)})."
    return f"The deepest level added {percent(share)} to its own steps; it is taken off."


def doubts(study: Study) -> list[str]:
    """What is not explained, what measuring cost, and every warning: whole sentences."""
    step, counts = study.step, study.run.steps
    out: list[str] = []
    if step.residual_ms is not None and known(step.residual_ms) and abs(step.residual_ms) >= 0.0005:
        part = f" ({percent(1 - step.accounted_share)} of the step)" if step.accounted_share is not None else ""
        out.append(f"Nobody claims {ms(step.residual_ms)}{part}.")
    if step.profiled_probe_share is not None and known(step.profiled_probe_share):
        out.append(probe_text(step.profiled_probe_share))
    if counts.set_aside > 0:
        out.append(f"Set aside as hiccups: {counts.set_aside} of {counts.measured} measured steps.")
    if study.run.stopped not in {"window", "script end"}:
        out.append(f"The run ended early ({study.run.stopped}); this is what was measured until then.")
    return out + list(study.run.warnings)


def unclassified(study: Study) -> list[tuple[str, float]]:
    """Ops that no class claims, with their ms a step, largest first."""
    found: dict[str, float] = {}
    for op in study.ops:
        if op.op_class == "unclassified" and known(op.ms):
            found[op.op] = found.get(op.op, 0.0) + op.ms
    return sorted(found.items(), key=lambda item: -item[1])


def memory_items(study: Study) -> list[str]:
    """What is known of memory, as items."""
    memory = study.memory
    named = (
        ("peak", memory.peak_bytes),
        ("parameters", memory.parameters_bytes),
        ("gradients", memory.gradients_bytes),
        ("optimizer", memory.optimizer_bytes),
        ("saved for backward", memory.saved_bytes),
    )
    return [f"{name} {byte_size(value)}" for name, value in named if value is not None]


def rank_sentences(study: Study) -> list[str]:
    """How the ranks compare: what analysis says of them all, then of those that hold up others or differ."""
    report = study.rank_report
    if report is None:
        return []
    every = [*report.sentences, *(x.sentence for x in report.stragglers), *(x.sentence for x in report.odd)]
    told = " ".join(finding.sentence for finding in study.findings)  # what is said there is not said again
    return list(dict.fromkeys(said for said in every if said and said not in told))


def chosen_ranks(ranks: Sequence[Rank], top: int) -> list[Rank]:
    """At most `top` ranks, in their order: where there are more, those least busy and those busiest."""
    if len(ranks) <= top:
        return list(ranks)
    order = sorted(range(len(ranks)), key=lambda i: _busy(ranks[i]))
    keep = {*order[: (top + 1) // 2], *order[len(order) - top // 2 :]}
    return [rank for i, rank in enumerate(ranks) if i in keep]


def _busy(rank: Rank) -> float:
    share = rank.timeline.busy.share if rank.timeline is not None else None
    return share if share is not None and known(share) else -1.0


def gaps_by_cause(ranks: Sequence[Rank]) -> list[tuple[str, float, float, int, str]]:
    """(cause, ms, share, count, evidence): mean ms and share over the ranks with gaps; counts are sums."""
    having = [rank for rank in ranks if rank.gaps]
    merged: dict[str, list[Gap]] = {}
    for rank in having:
        for gap in rank.gaps:
            merged.setdefault(gap.cause, []).append(gap)
    rows = [_merged(cause, gaps, len(having)) for cause, gaps in merged.items()]
    return sorted(rows, key=lambda row: -row[1])


def _merged(cause: str, gaps: Sequence[Gap], ranks: int) -> tuple[str, float, float, int, str]:
    part = len(gaps) / ranks
    evidence = max(gaps, key=lambda gap: gap.ms if known(gap.ms) else -1.0).evidence
    return (
        cause,
        _mean(g.ms for g in gaps) * part,
        _mean(g.share for g in gaps) * part,
        sum(g.count for g in gaps),
        evidence,
    )


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if known(value)]
    return sum(finite) / len(finite) if finite else float("nan")
