"""The study of traces from devices, and of trace files of hosts: where the steps of one or many ranks went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.beside import beside
from longpole.analysis.clock_alignment import align
from longpole.analysis.communication import communication_times
from longpole.analysis.critical_parts import Columns
from longpole.analysis.critical_path import critical_path, critical_path_of_ranks
from longpole.analysis.device_answers import answers, findings
from longpole.analysis.device_costs import peaks_used
from longpole.analysis.device_parts import merged
from longpole.analysis.device_poles import headline
from longpole.analysis.device_rank import OneRank, at_other_turns, attributed, measured, one_rank
from longpole.analysis.device_steps import in_common
from longpole.analysis.device_tables import layer_times, op_class_times, op_times, phase_times
from longpole.analysis.device_words import ms
from longpole.analysis.ranks import answer_of, findings_of, study_ranks
from longpole.analysis.statistics import median_interval
from longpole.analysis.study import Memory, Run, Spread, Step, StepCounts, StepSample, Study
from longpole.errors import LongpoleError
from longpole.trace import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.analysis.clock_alignment import Alignment
    from longpole.analysis.device_rank import Marks
    from longpole.analysis.device_results import CriticalPath
    from longpole.analysis.device_steps import Turns
    from longpole.analysis.rank_alone import Alone
    from longpole.trace import Trace

MOST_RANKS = 100_000
MOST_LISTED = 8


def device_study(traces: Sequence[Trace], step: int | None = None) -> Study:
    """The study of the traces of one run, one a rank; `step` (as the trace numbers it) narrows it to one step.

    Times are of the mean step: phases, op classes and ops each sum to it. With several ranks, parts are the mean
    over ranks. Raises LongpoleError where there is no trace or no such step.
    """
    if len(traces) == 1:
        return _study_of_one(traces[0], step)
    return study_of_ranks([one_rank(trace, step) for trace in traces])


def _study_of_one(trace: Trace, step: int | None) -> Study:
    """The same of a single rank, on two cores: what takes long and makes little is done beside the rest."""
    communication = beside(trace, lambda: communication_times(trace))
    half = attributed(trace, step)
    window = _middle_step(half.turns)
    path = beside(trace, lambda: critical_path(trace, window, _columns(half.marks)))
    one = measured(half, communication())
    return _study([one], path)


def study_of_ranks(studied: Sequence[OneRank]) -> Study:
    """The study of the ranks of one run, of which each has been studied by itself; errors as of `device_study`.

    The critical path is found beside the rest, on two cores.
    """
    if not studied:
        raise LongpoleError("no trace to study; give a trace file, or a folder of them")
    common = in_common([rank.turns for rank in studied])
    ranks = [
        rank if turns.kept == rank.turns.kept else at_other_turns(rank, turns)
        for rank, turns in zip(studied, common, strict=True)
    ]
    with_work = _with_work(ranks)
    alignment = _aligned(ranks)
    of_work = alignment if len(with_work) == len(ranks) else _aligned(with_work)
    path = beside(ranks[0].trace, lambda: _critical_path(with_work, of_work))
    return _study(ranks, path, alignment)


def _aligned(ranks: Sequence[OneRank]) -> Alignment:
    known = _alone(ranks)
    return align([rank.trace for rank in ranks], None if known is None else [rank.collectives for rank in known])


def _alone(ranks: Sequence[OneRank]) -> list[Alone] | None:
    """What was found of each rank by itself; None where that was left out for one."""
    found = [rank.alone for rank in ranks if rank.alone is not None]
    return found if len(found) == len(ranks) else None


def _study(
    ranks: Sequence[OneRank], path: Callable[[], CriticalPath | None], alignment: Alignment | None = None
) -> Study:
    told = _with_work(ranks)
    whole = merged([rank.whole for rank in told])
    first = told[0]
    unit = "step" if first.turns.has_steps else "recording"
    types = {path: kind for rank in ranks for path, kind in _types(rank.marks).items()}
    study = Study(
        headline=headline(whole, unit),
        run=_run(first, ranks),
        step=_step(told),
        phases=phase_times(whole),
        layers=layer_times(whole, types),
        op_classes=op_class_times(whole),
        ops=op_times(whole),
        memory=_memory(ranks),
        findings=findings(whole),
        ranks=[rank.rank for rank in ranks],
    )
    _add_peaks(study, told)
    study.answers = answers(study, whole, unit, _why_no_layers(ranks))
    _add_communication(study, ranks, alignment)
    study.critical_path = path()
    return study


def _add_peaks(study: Study, ranks: Sequence[OneRank]) -> None:
    """Says over which peaks the bounds are, where any op has one."""
    said = peaks_used(ranks[0].trace.info.device)
    if said is not None and any(op.bound_ms is not None for op in study.ops):
        study.run.warnings.append(said)


def _add_communication(study: Study, ranks: Sequence[OneRank], alignment: Alignment | None) -> None:
    """Collectives of each rank, and how the ranks compare where there are several."""
    traces = [rank.trace for rank in ranks]
    study.communication = [row for rank in ranks for row in rank.communication]
    if len(traces) > 1:
        phases = [rank.marks.host_phase for rank in ranks]
        study.rank_report = study_ranks(traces, phases, _alone(ranks), alignment)
        study.answers.append(answer_of(study.rank_report))
        study.findings += findings_of(study.rank_report)
        study.headline += "".join(
            f" Rank {one.rank} makes the others wait {ms(one.ms)} a step." for one in study.rank_report.stragglers[:1]
        )


def _critical_path(ranks: Sequence[OneRank], alignment: Alignment) -> CriticalPath | None:
    """That of the step of middle length, on the rank whose steps take longest."""
    longest = max(range(len(ranks)), key=lambda index: ranks[index].whole.step_ms)
    window = _middle_step(ranks[longest].turns)
    columns = [_columns(rank.marks) for rank in ranks]
    if len(ranks) == 1:
        return critical_path(ranks[0].trace, window, columns[0])
    return critical_path_of_ranks([rank.trace for rank in ranks], longest, window, alignment, columns)


def _middle_step(turns: Turns) -> tuple[int, int]:
    """The window of the step of middle length."""
    kept = sorted(turns.kept, key=lambda turn: turn.ms)
    return kept[len(kept) // 2].window


def _columns(found: Marks) -> Columns:
    return Columns(
        phase=found.phase,
        op_class=found.op_class,
        layer=found.layer,
        layers=found.layers,
    )


def _types(found: Marks) -> dict[str, str]:
    return dict(zip(found.layers, found.layer_types, strict=True))


def _with_work(ranks: Sequence[OneRank]) -> Sequence[OneRank]:
    """Ranks with device work, where any has: what a host alone did is no part of the mean over devices."""
    return [rank for rank in ranks if rank.whole.has_device] or ranks


def _run(first: OneRank, ranks: Sequence[OneRank]) -> Run:
    info = first.trace.info
    turns = first.turns
    warnings = _said_once([[*rank.trace.info.warnings, *rank.turns.notes] for rank in ranks])
    why = _why_no_layers(ranks)
    kept = len(turns.kept) if turns.has_steps else 0
    return Run(
        script=info.script,
        argv=list(info.argv),
        device=info.device,
        framework=info.framework,
        world_size=info.world_size,
        steps=StepCounts(seen=turns.seen, measured=kept),
        stopped=info.stopped,
        source=info.source,
        warnings=[
            *_of_several_runs(ranks),
            *_not_there(ranks),
            *warnings,
            *([why] if why else []),
            *_cost_of_stacks(ranks),
        ],
        facts=dict(info.facts),
    )


def _why_no_layers(ranks: Sequence[OneRank]) -> str:
    """The reason, where no rank has layers; "" where one has."""
    reasons = [rank.marks.why_no_layers for rank in ranks]
    return reasons[0] if all(reasons) else ""


def _of_several_runs(ranks: Sequence[OneRank]) -> list[str]:
    """A doubt where traces do not look like the ranks of one run: means over them would mean nothing."""
    infos = [rank.trace.info for rank in ranks]
    numbers = [info.rank for info in infos if info.rank is not None]
    twice = sorted({number for number in numbers if numbers.count(number) > 1})
    signs = [f"rank {twice[0]} comes more than once"] if twice else []
    for what, values in (
        ("devices", {i.device for i in infos} - {None}),
        ("numbers of ranks", {i.world_size for i in infos}),
    ):
        signs += [f"their {what} differ"] if len(values) > 1 else []
    if not signs:
        return []
    return [f"These traces may not be of one run: {' and '.join(signs)}. Their parts are averaged all the same."]


def _not_there(ranks: Sequence[OneRank]) -> list[str]:
    """Ranks of the run of which there is no trace, or none of a device, where several were given."""
    infos = [rank.trace.info for rank in ranks]
    numbers = {info.rank for info in infos if info.rank is not None}
    size = infos[0].world_size
    found: list[str] = []
    if len(ranks) > 1 and size is not None and len(numbers) < size <= MOST_RANKS:
        missing = [str(number) for number in range(size) if number not in numbers]
        found.append(f"Of the {size} ranks, {len(numbers)} were given; not {_listed(missing)}.")
    idle = [
        str(place if i.rank is None else i.rank) for place, i in enumerate(infos) if not ranks[place].whole.has_device
    ]
    if idle and len(idle) < len(ranks):
        found.append(f"No device work was recorded on {_listed(idle)}: the parts are the mean of the others.")
    return found


def _listed(numbers: Sequence[str]) -> str:
    """ "rank 3", "ranks 1, 2 and 5 more"."""
    more = f" and {len(numbers) - MOST_LISTED} more" if len(numbers) > MOST_LISTED else ""
    shown = ", ".join(numbers[:MOST_LISTED])
    return f"rank{'s' if len(numbers) > 1 else ''} {shown}{more}"


def _said_once(of_ranks: Sequence[Sequence[str]]) -> list[str]:
    """Sentences of all ranks; those that differ only in figures after a colon are said for the first and counted."""
    found: dict[str, list[str]] = {}
    for sentence in (sentence for said in of_ranks for sentence in said):
        found.setdefault(sentence.partition(": ")[0], []).append(sentence)
    return [
        one[0] if len(set(one)) == 1 else f"{one[0]} The like on {len(one) - 1} more of the {len(of_ranks)} ranks."
        for one in found.values()
    ]


def _cost_of_stacks(ranks: Sequence[OneRank]) -> list[str]:
    """Recording every Python call slows the host, and with it the launches."""
    if any(np.any(rank.trace.events.kind == Kind.PYTHON) for rank in ranks):
        return ["Python calls were recorded, which slows the host: unrecorded, it launches faster and waits less."]
    return []


def _step(ranks: Sequence[OneRank]) -> Step:
    """Step times of all ranks together: the mean is of ranks' means, which the parts sum to."""
    times = [[turn.ms for turn in rank.turns.kept] for rank in ranks]
    flat = np.array([value for one in times for value in one])
    low, high = median_interval(flat) or (None, None)
    kept = {id(turn) for turn in ranks[0].turns.kept}
    return Step(
        wall_ms=Spread(
            median=float(np.median(flat)),
            low=low,
            high=high,
            n=len(flat),
            mean=sum(float(np.mean(one)) for one in times) / len(times),
        ),
        samples=[
            StepSample(turn.index, turn.ms, "measured" if id(turn) in kept else "set aside")
            for turn in ranks[0].turns.all
        ],
    )


def _memory(ranks: Sequence[OneRank]) -> Memory:
    """The most that any rank's device had allocated, where allocations were recorded."""
    totals = [int(rank.trace.memory.total_allocated.max()) for rank in ranks if len(rank.trace.memory.total_allocated)]
    return Memory(peak_bytes=max(totals) if totals and max(totals) > 0 else None)
