"""The ledger: what each phase of a step takes, from steps that carried phase marks only.

Marked time is measured on every such step. Time between marks is divided by what the sampling thread saw in
the same gap of other steps: the line of the user's source, and what that line is for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.occasional import with_occasional
from longpole.analysis.segments import NOT_TRAINING, GapKey, Segment, marks_by_step, segments_of, steps_at
from longpole.analysis.statistics import hiccups
from longpole.trace import Level, Phase, label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.trace import StepWindow, Trace

PHASES = tuple(phase for phase in Phase if phase != Phase.NOBODY)
NEARLY_ALL = 0.75  # of the sampled time in marks on a line
Where = tuple[Phase, str]  # a phase and a place in the source
Located = tuple[int, Segment, float]  # row of a sample, its segment, the milliseconds that it stands for


@dataclass(frozen=True, slots=True)
class Seen:
    """What samples saw, by segment of the step: milliseconds by (phase, place)."""

    gaps: dict[GapKey, Counter[Where]]
    phases: Mapping[Phase, Counter[Where]]


@dataclass(slots=True)
class Ledger:
    """Milliseconds a step. `phase_ms` has a row a kept step, a column a phase, and sums to `wall_ms`."""

    wall_ms: NDArray[np.float64]  # of the kept steps
    phase_ms: NDArray[np.float64]  # (steps, len(Phase)); NOBODY is time that no sample explains
    sites: Mapping[Phase, list[tuple[str, float]]] = field(default_factory=dict)
    gap_ms: Mapping[Phase, float] = field(default_factory=dict[Phase, float])  # of the phase's mean, in no mark
    set_aside_ms: list[float] = field(default_factory=list[float])  # walls of the hiccups left out
    kept: list[bool] = field(default_factory=list[bool])  # of every timed step, in order

    def mean_ms(self, phase: Phase) -> float:
        return float(self.phase_ms[:, phase].mean()) if len(self.phase_ms) else 0.0


def make_ledger(trace: Trace) -> Ledger:
    """The ledger of a live run. Raises ValueError where no step was measured at level 0."""
    marks = marks_by_step(trace)
    watched = [step for step in trace.steps if step.index in marks]
    cut = {step.index: segments_of(step, marks[step.index]) for step in watched}
    timed = steps_at(trace, Level.PHASES) or steps_at(trace, Level.SITES, Level.OPS)
    if not timed:
        raise ValueError("no measured step")
    seen = _seen(trace, cut)
    _name_the_unseen(seen, cut, trace.info.facts)
    by_step = {step.index: _by_phase(cut[step.index], seen) for step in watched}
    rows = np.array([by_step[step.index] for step in timed])
    walls = rows.sum(axis=1)
    regular = walls - rows[:, list(NOT_TRAINING)].sum(axis=1)
    aside = hiccups(regular)
    kept = [cut[step.index] for step, out in zip(timed, aside, strict=True) if not out]
    phase_ms = with_occasional(rows[~aside], watched, by_step)
    gap_ms = _places_in_gaps(kept, seen)
    for phase in gap_ms.keys() & set(NOT_TRAINING):
        share = float(phase_ms[:, phase].sum()) / max(float(rows[~aside, phase].sum()), 1e-12)
        gap_ms[phase] = {place: ms * share for place, ms in gap_ms[phase].items()}
    return Ledger(
        wall_ms=phase_ms.sum(axis=1),
        phase_ms=phase_ms,
        sites=_sites(phase_ms.mean(axis=0), gap_ms, seen),
        gap_ms={phase: sum(places.values()) for phase, places in gap_ms.items()},
        set_aside_ms=walls[aside].tolist(),
        kept=(~aside).tolist(),
    )


def with_inner_loss(ledger: Ledger, marked_share: float, gap_share: float) -> Ledger:
    """The ledger with these parts of forward given to loss: of its marks, and of what it has in gaps.

    Losses that a model computes itself carry no mark, nor do those on the line of the forward pass.
    """
    forward_ms = ledger.mean_ms(Phase.FORWARD)
    in_gaps_ms = min(ledger.gap_ms.get(Phase.FORWARD, 0.0), forward_ms)
    moved_ms = (forward_ms - in_gaps_ms) * marked_share + in_gaps_ms * gap_share
    if not moved_ms:
        return ledger
    phase_ms, gap_ms = ledger.phase_ms.copy(), dict(ledger.gap_ms)
    moved = phase_ms[:, Phase.FORWARD] * (moved_ms / forward_ms)
    phase_ms[:, Phase.FORWARD] -= moved
    phase_ms[:, Phase.LOSS] += moved
    gap_ms[Phase.FORWARD] = in_gaps_ms * (1 - gap_share)
    gap_ms[Phase.LOSS] = gap_ms.get(Phase.LOSS, 0.0) + in_gaps_ms * gap_share
    return replace(ledger, phase_ms=phase_ms, gap_ms=gap_ms)


def _seen(trace: Trace, cut: Mapping[int, Sequence[Segment]]) -> Seen:
    gaps: dict[GapKey, Counter[Where]] = defaultdict(Counter)
    phases: dict[Phase, Counter[Where]] = defaultdict(Counter)
    usual_ns = _usual_distance_ns(trace, cut)
    sampled = steps_at(trace, Level.SITES)
    located = [found for step in sampled for found in _located(trace, step, cut[step.index], usual_ns)]
    own_lines = _lines_of_evaluation(trace, located)
    for index, segment, ms in located:
        place = trace.text(int(trace.samples.site[index]))
        if segment.gap is None:
            phases[segment.phase][segment.phase, place] += ms  # type: ignore[assignment]
        else:
            phase = Phase(int(trace.samples.flow[index])) or own_lines.get(int(trace.samples.loop_line[index]))
            gaps[segment.gap][phase or Phase.OTHER, place] += ms  # type: ignore[assignment]
    return Seen(gaps, phases)


def _located(trace: Trace, step: StepWindow, segments: Sequence[Segment], usual_ns: float) -> Iterator[Located]:
    """Each sample inside a step with its segment, and the milliseconds that it stands for.

    A sample stands for the time half-way to its neighbours. To count samples would be wrong where the sampling
    thread waits for a processor: it does while the training thread computes, and not while it sleeps. Towards a
    neighbour in another segment that time is half the usual distance at most. To give it all up to the border
    instead would be wrong, too: where a line at the border is shorter than the distance between samples, the line
    before it would be given its time whenever it is missed.
    """
    times = trace.samples.time_ns
    starts = np.array([segment.start_ns for segment in segments], dtype=np.int64)
    first, last = np.searchsorted(times, [step.start_ns, step.end_ns])
    inside = np.maximum(np.searchsorted(starts, times[first:last], side="right") - 1, 0)
    if not len(inside):
        return
    halves = _between(inside, np.diff(times[first:last]) / 2, usual_ns / 2)
    for row, at, ns in zip(range(int(first), int(last)), inside.tolist(), halves[1:] + halves[:-1], strict=True):
        yield row, segments[at], float(ns) / 1e6


def _between(inside: NDArray[np.intp], half_ns: NDArray[np.float64], usual_ns: float) -> NDArray[np.float64]:
    """Half the distance before the first sample, between each two, after the last; cut where it crosses a border."""
    crosses = np.diff(inside) != 0
    within = np.where(crosses, np.minimum(half_ns, usual_ns), half_ns)
    return np.concatenate(([usual_ns], within, [usual_ns]))


def _usual_distance_ns(trace: Trace, cut: Mapping[int, Sequence[Segment]]) -> float:
    """The median time between two samples in one segment: the period of a sampling thread that is not held up."""
    distances: list[float] = []
    for step in steps_at(trace, Level.SITES):
        first, last = np.searchsorted(trace.samples.time_ns, [step.start_ns, step.end_ns])
        times = trace.samples.time_ns[first:last]
        inside = np.searchsorted([segment.start_ns for segment in cut[step.index]], times, side="right")
        distances += np.diff(times)[np.diff(inside) == 0].tolist()
    return max(float(np.median(distances)), 1.0) if distances else 1.0


def _lines_of_evaluation(trace: Trace, located: Sequence[Located]) -> dict[int, Phase]:
    """Lines of the loop that do nothing but evaluate, or save: what else is done on them belongs to it.

    `validate(model)` is more than its forward calls, and `save(model)` more than `torch.save`. A stray sample does not
    count: its stack may have been read just before a mark that its time falls into.
    """
    lines: dict[int, Counter[Phase]] = defaultdict(Counter)
    for index, segment, ms in located:
        if segment.gap is None:
            lines[int(trace.samples.loop_line[index])][segment.phase] += ms  # type: ignore[assignment]
    return {
        line: phase
        for line, found in lines.items()
        for phase in NOT_TRAINING
        if found[phase] > NEARLY_ALL * found.total() and trace.text(line)
    }


def _name_the_unseen(seen: Seen, cut: Mapping[int, Sequence[Segment]], facts: Mapping[str, str]) -> None:
    """A gap that no sample fell into is named by the marks at its ends, where their lines are known."""
    gaps = {segment.gap for segments in cut.values() for segment in segments if segment.gap is not None}
    for before, after in gaps - seen.gaps.keys():
        ends = [facts.get(f"line of {label(phase)}") for phase in (before, after) if phase]
        if after == Phase.EVALUATION:  # what precedes its first call: its batch, most often
            seen.gaps[before, after][Phase.EVALUATION, facts.get("line of evaluation", "before evaluation")] += 1
        elif ends and all(ends):
            place = " and ".join(dict.fromkeys(end for end in ends if end))
            seen.gaps[before, after][Phase.OTHER, f"{'between' if len(ends) > 1 else 'near'} {place}"] += 1


def _by_phase(segments: Sequence[Segment], seen: Seen) -> NDArray[np.float64]:
    """Milliseconds of one step by phase; gaps divided as sampled."""
    row = np.zeros(len(Phase))
    for segment in segments:
        ms = (segment.end_ns - segment.start_ns) / 1e6
        if segment.gap is None:
            row[segment.phase] += ms
            continue
        counts = seen.gaps.get(segment.gap)
        if not counts:
            row[Phase.NOBODY] += ms
            continue
        total = counts.total()
        for (phase, _), count in counts.items():
            row[phase] += ms * count / total
    return row


def _places_in_gaps(kept: Sequence[Sequence[Segment]], seen: Seen) -> dict[Phase, dict[str, float]]:
    """Milliseconds a step between marks, by phase and place."""
    by_gap: dict[GapKey, float] = defaultdict(float)
    for segment in (segment for segments in kept for segment in segments):
        if segment.gap is not None:
            by_gap[segment.gap] += (segment.end_ns - segment.start_ns) / 1e6 / len(kept)
    places: dict[Phase, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for gap, ms in by_gap.items():
        counts = seen.gaps.get(gap, Counter())
        for (phase, place), count in counts.items():
            places[phase][place] += ms * count / counts.total()
    return places


def _sites(
    mean_ms: NDArray[np.float64], gap_ms: Mapping[Phase, Mapping[str, float]], seen: Seen
) -> dict[Phase, list[tuple[str, float]]]:
    """Source lines of each phase with their milliseconds a step, largest first; they sum to at most the phase."""
    found: dict[Phase, list[tuple[str, float]]] = {}
    for phase in PHASES:
        places = Counter(dict(gap_ms.get(phase, {})))
        marked = max(float(mean_ms[phase]) - sum(places.values()), 0.0)
        counts = seen.phases.get(phase, Counter())
        for (_, place), count in counts.items():
            places[place] += marked * count / counts.total()  # type: ignore[assignment]
        found[phase] = [(place, float(ms)) for place, ms in places.most_common()]
    return found
