"""How the ranks of one run compare: clocks, who waits for whom in collectives, who is unlike the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.analysis.clock_alignment import align
from longpole.analysis.device_phases import host_phases
from longpole.analysis.device_results import ClockOffset, PhasePart, RankFigures, RankReport, Straggler
from longpole.analysis.rank_alone import alone_of
from longpole.analysis.rank_oddity import odd_ranks
from longpole.analysis.rank_words import answer_of, findings_of, sentences_of
from longpole.analysis.skew import NO_STEP, device_time, latest, more_than_others, skews, waits_of
from longpole.trace import Phase, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from longpole.analysis.clock_alignment import Alignment
    from longpole.analysis.rank_alone import Alone
    from longpole.analysis.skew import Waits
    from longpole.trace import Trace

    Phases = Sequence[NDArray[np.integer[Any]] | None]

LEAST_SHARE = 0.4  # of all waiting that one rank must cause to be named
FAIR = 2.0  # times its even part of the waiting, and
MOST_FAIR = 0.75  # at most this: of two ranks, one that causes three quarters
LEAST_OF_STEP = 0.01  # of a step, that the others must wait for it
STEADY = 0.9  # share of the steps from one on in which the straggler is the same


def study_ranks(
    traces: Sequence[Trace],
    phases: Phases | None = None,
    alone: Sequence[Alone] | None = None,
    alignment: Alignment | None = None,
) -> RankReport:
    """Compares the traces of the ranks of one run.

    `phases` are the phases of each trace's host rows, `alone` what was found of each rank by itself, and `alignment`
    how their clocks stand, where known. Beyond the traces it holds a few numbers for each collective and rank.
    """
    ranks = alone if alone is not None else [alone_of(trace) for trace in traces]
    if alignment is None:
        alignment = align(traces, [rank.collectives for rank in ranks])
    waits = [waits_of(match, alignment, traces, [rank.steps for rank in ranks]) for match in alignment.matches]
    chosen, count = _whole_steps(waits)
    figures = [
        _figures(*one)
        for one in zip(names_of(traces), ranks, _starts(ranks, alignment), alignment.matched, strict=True)
    ]
    _add_waits(figures, waits, chosen, max(count, 1))
    _add_lateness(figures, traces, waits, chosen, max(count, 1), phases)
    stragglers = _stragglers(figures, count, _usual_step(ranks))
    report = RankReport(
        clocks=[_clock(figures[index].rank, alignment, index) for index in range(len(traces))],
        ranks=figures,
        collectives=skews(waits, chosen),
        stragglers=stragglers,
        odd=odd_ranks(figures, [rank.host for rank in ranks], stragglers),
        steps=count,
    )
    report.sentences = sentences_of(report)
    return report


def names_of(traces: Sequence[Trace]) -> list[str]:
    """What to call each rank: its number, or where it is not known or twice there, the file's place."""
    known = [trace.info.rank for trace in traces]
    return [
        str(rank) if rank is not None and known.count(rank) == 1 else f"of file {index + 1}"
        for index, rank in enumerate(known)
    ]


def _whole_steps(waits: Sequence[Waits]) -> tuple[list[NDArray[np.bool_]], int]:
    """Which collectives to sum, and over how many steps: those launched in known steps, else all and 0."""
    steps = {int(step) for one in waits for step in np.unique(one.step) if step != NO_STEP}
    if not steps:
        return [np.ones(len(one.step), dtype=np.bool_) for one in waits], 0
    return [one.step != NO_STEP for one in waits], len(steps)


def _usual_step(ranks: Sequence[Alone]) -> float | None:
    """Milliseconds of a step, or of the recording where there are none: what waits are held against."""
    lengths = [(step.end_ns - step.start_ns) / 1e6 for rank in ranks for step in rank.steps]
    lengths = lengths or [(rank.window[1] - rank.window[0]) / 1e6 for rank in ranks if rank.window is not None]
    return float(np.median(lengths)) if lengths else None


def _clock(name: str, alignment: Alignment, index: int) -> ClockOffset:
    offset, residual = alignment.offset_ns[index], alignment.residual_ns[index]
    return ClockOffset(
        rank=name,
        offset_ms=None if offset is None else offset / 1e6,
        residual_ms=None if residual is None else residual / 1e6,
        matched=alignment.matched[index],
    )


def _starts(ranks: Sequence[Alone], alignment: Alignment) -> list[float | None]:
    """When each rank's device work begins in its recording, milliseconds after the earliest rank's."""
    starts = [
        rank.window[0] + offset if rank.window is not None and offset is not None else None
        for rank, offset in zip(ranks, alignment.offset_ns, strict=True)
    ]
    earliest = min((start for start in starts if start is not None), default=0)
    return [None if start is None else (start - earliest) / 1e6 for start in starts]


def _figures(name: str, rank: Alone, late_ms: float | None, matched: int) -> RankFigures:
    times, host = rank.timeline, rank.host
    return RankFigures(
        rank=name,
        idle_share=times.idle.share if times else None,
        communication_share=times.communication.share if times else None,
        compute_share=times.compute.share if times else None,
        recorded_ms=times.span_ms if times else None,
        late_start_ms=late_ms,
        host_step_ms=None if host.step_ns is None else host.step_ns / 1e6,
        queue_ms=None if host.queue_ns is None else host.queue_ns / 1e6,
        host_bound_share=host.bound_share,
        kernels=rank.kernels,
        collectives=matched,
    )


def _add_waits(
    figures: Sequence[RankFigures], waits: Sequence[Waits], chosen: Sequence[NDArray[np.bool_]], steps: int
) -> None:
    """Fills what each rank waited, transferred and caused, in milliseconds a step."""
    for one, mask in zip(waits, chosen, strict=True):
        members = one.match.members
        others = np.maximum(len(members) - 1, 1)
        caused = one.wait_ns.sum(axis=0) / others / 1e6 / steps
        for place, member in enumerate(members):
            found = figures[member]
            found.waited_ms = (found.waited_ms or 0.0) + float(one.wait_ns[place, mask].sum()) / 1e6 / steps
            found.transfer_ms = (found.transfer_ms or 0.0) + float(one.transfer_ns[place, mask].sum()) / 1e6 / steps
            mine = mask & (one.last == place)
            found.last += int(mine.sum())
            found.caused_ms = (found.caused_ms or 0.0) + float(caused[mine].sum())
            for step in np.unique(one.step[mine]).tolist():
                if step != NO_STEP:
                    here = float(caused[mine & (one.step == step)].sum()) * steps
                    found.caused_by_step[str(step)] = found.caused_by_step.get(str(step), 0.0) + here


def _add_lateness(
    figures: Sequence[RankFigures],
    traces: Sequence[Trace],
    waits: Sequence[Waits],
    chosen: Sequence[NDArray[np.bool_]],
    steps: int,
    phases: Phases | None,
) -> None:
    """Fills what each rank did more than the others between one collective and the next, where it came last."""
    given = phases if phases is not None else [None] * len(traces)
    spans = [
        device_time(trace, phase if phase is not None else host_phases(trace))
        for trace, phase in zip(traces, given, strict=True)
    ]
    found: list[dict[tuple[int, bool], float]] = [{} for _ in traces]
    for one, mask in zip(waits, chosen, strict=True):
        for column in latest(one, mask).tolist():
            member = one.match.members[int(one.last[column])]
            for key, time in more_than_others(one, column, spans).items():
                found[member][key] = found[member].get(key, 0.0) + time
    for index, parts in enumerate(found):
        figures[index].before_arriving = _parts(parts, steps)


def _parts(found: dict[tuple[int, bool], float], steps: int) -> list[PhasePart]:
    parts: dict[int, PhasePart] = {}
    for (phase, idle), time in found.items():
        word = label(Phase(phase)) if phase != Phase.NOBODY else "other"
        part = parts.setdefault(phase, PhasePart(phase=word, ms=0.0, idle_ms=0.0))
        part.ms += time / 1e6 / steps
        part.idle_ms += time / 1e6 / steps if idle else 0.0
    return sorted(parts.values(), key=lambda part: -part.ms)


def _stragglers(figures: Sequence[RankFigures], steps: int, usual_ms: float | None) -> list[Straggler]:
    whole = sum(one.caused_ms or 0.0 for one in figures)
    least = max(LEAST_SHARE, min(FAIR / max(len(figures), 1), MOST_FAIR))
    found: list[Straggler] = []
    for one in figures:
        caused = one.caused_ms or 0.0
        if whole <= 0 or caused < least * whole or caused < LEAST_OF_STEP * (usual_ms or 0.0):
            continue
        late = sum(part.ms for part in one.before_arriving)
        idle = sum(part.idle_ms for part in one.before_arriving) / late if late > 0 else 0.0
        idle = min(max(idle, 0.0), 1.0)
        phase = one.before_arriving[0].phase if one.before_arriving else None
        straggler = Straggler(one.rank, caused, caused / whole, _since(one, figures), phase, idle, "")
        straggler.sentence = _straggler_sentence(straggler, figures, steps)
        found.append(straggler)
    return found


def _since(one: RankFigures, figures: Sequence[RankFigures]) -> str | None:
    """The first step from which on this rank nearly always causes the most waiting."""
    steps = sorted({step for other in figures for step in other.caused_by_step}, key=int)
    most = [
        one.caused_by_step.get(step, 0.0) > 0
        and one.caused_by_step[step] >= max(other.caused_by_step.get(step, 0.0) for other in figures)
        for step in steps
    ]
    for place, step in enumerate(steps):
        if most[place] and np.mean(most[place:]) >= STEADY:
            return step
    return None


def _straggler_sentence(one: Straggler, figures: Sequence[RankFigures], steps: int) -> str:
    known = sorted({int(step) for other in figures for step in other.caused_by_step})
    since = ""
    if one.since_step is not None:
        first = known and int(one.since_step) == known[0]
        since = ", from the first recorded step on" if first else f", since step {one.since_step}"
    phase = f", most of it late in {one.phase}" if one.phase and one.phase != "other" else ""
    sort = (
        "its device had nothing to do: its host launched late"
        if one.idle_share >= 0.5
        else "its device had more to do, or was slower at it"
    )
    each = "a step" if steps else "altogether"
    part = max(one.idle_share, 1 - one.idle_share)
    return (
        f"Rank {one.rank} makes the others wait: {one.ms:.2f} ms {each} each, {100 * one.share:.0f} % of all waiting "
        f"in collectives{since}{phase}; for {100 * part:.0f} % of its lateness {sort}."
    )


__all__ = ["answer_of", "findings_of", "names_of", "study_ranks"]
