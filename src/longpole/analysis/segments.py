"""A step as a row of segments without overlap: each instant has one phase mark, or lies in a gap between two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.trace import Kind, Level, NoGrad, Phase, label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from longpole.trace import StepWindow, Trace

GapKey = tuple[Phase, Phase]  # the marks before and after
START = END = Phase.NOBODY
# A call without gradients in at least this share of the steps is part of the training: a teacher, a generator.
EVERY_STEP = 0.8
NOT_TRAINING = (Phase.EVALUATION, Phase.CHECKPOINT)
BY_NAME: Mapping[str, Phase] = {label(phase): phase for phase in Phase}


@dataclass(frozen=True, slots=True)
class Segment:
    """`phase` is NOBODY in a gap, whose `gap` says what stands before and after."""

    start_ns: int
    end_ns: int
    phase: Phase
    gap: GapKey | None = None
    row: int = -1  # of the mark

    def part_at(self, time_ns: int) -> float:
        """How far into it a moment is: 0 at its begin, 1 at its end."""
        return (time_ns - self.start_ns) / max(self.end_ns - self.start_ns, 1)


@dataclass(frozen=True, slots=True)
class Mark:
    start_ns: int
    end_ns: int
    phase: Phase
    row: int
    detail: int


def steps_at(trace: Trace, *levels: Level) -> list[StepWindow]:
    return [step for step in trace.steps if step.level in levels]


def marks_by_step(trace: Trace) -> dict[int, list[Mark]]:
    """Phase marks of every measured step, and of others that have any, in order, evaluation told from teachers."""
    rows = trace.events.rows_of(Kind.PHASE)
    starts = trace.events.start_ns[rows]
    found: dict[int, list[Mark]] = {}
    for step in trace.steps:
        here = rows[np.searchsorted(starts, step.start_ns) : np.searchsorted(starts, step.end_ns)]
        if step.level or len(here):
            found[step.index] = [_mark(trace, int(row)) for row in here]
    regular = _is_regular(list(found.values()))
    return {index: _resolved(marks, regular=regular) for index, marks in found.items()}


def _mark(trace: Trace, row: int) -> Mark:
    events = trace.events
    start = int(events.start_ns[row])
    phase = BY_NAME.get(trace.name_of(row), Phase.OTHER)
    return Mark(start, start + int(events.duration_ns[row]), phase, row, int(events.correlation[row]))


def _is_regular(steps: Sequence[Sequence[Mark]]) -> bool:
    """Whether calls without gradients that are no clear evaluation come in nearly every step."""
    with_call = [any(m.phase == Phase.EVALUATION and not _is_clear(m.detail) for m in marks) for marks in steps]
    return bool(with_call) and sum(with_call) >= EVERY_STEP * len(with_call)


def _is_clear(detail: int) -> bool:
    """A module that is trained and is now in evaluation mode without gradients is being evaluated."""
    return detail == NoGrad.EVAL_MODE | NoGrad.TRAINED


def _resolved(marks: Sequence[Mark], *, regular: bool) -> list[Mark]:
    phases = [m.phase for m in marks]
    for index, mark in enumerate(marks):
        if mark.phase == Phase.EVALUATION and regular and not _is_clear(mark.detail):
            phases[index] = Phase.FORWARD
    for index in range(len(marks) - 2, -1, -1):  # a batch belongs to whom it is fed
        if phases[index] == Phase.DATA and phases[index + 1] == Phase.EVALUATION:
            phases[index] = Phase.EVALUATION
    return [Mark(m.start_ns, m.end_ns, p, m.row, m.detail) for m, p in zip(marks, phases, strict=True)]


def segments_of(step: StepWindow, marks: Sequence[Mark]) -> list[Segment]:
    """The step cut at every border of a mark; the innermost mark has the time. Durations sum to the step."""
    return list(_named(list(_cut(step, marks))))


def _cut(step: StepWindow, marks: Sequence[Mark]) -> Iterator[tuple[int, int, Mark | None]]:
    at = step.start_ns
    stack: list[Mark] = []

    def close_until(time_ns: int) -> Iterator[tuple[int, int, Mark | None]]:
        nonlocal at
        while stack and stack[-1].end_ns <= time_ns:
            inner = stack.pop()
            if inner.end_ns > at:
                yield at, inner.end_ns, inner
                at = inner.end_ns

    for mark in marks:
        yield from close_until(mark.start_ns)
        if mark.start_ns > at:
            yield at, mark.start_ns, stack[-1] if stack else None
            at = mark.start_ns
        stack.append(_nested(mark, stack))
    yield from close_until(step.end_ns)
    if at < step.end_ns:
        yield at, step.end_ns, stack[-1] if stack else None


def _nested(mark: Mark, stack: Sequence[Mark]) -> Mark:
    """A mark inside another: a forward inside backward is recomputation, and stays backward."""
    outer = stack[-1].phase if stack else None
    swallowed = outer in NOT_TRAINING or (outer == Phase.BACKWARD and mark.phase in (Phase.FORWARD, Phase.LOSS))
    end = min(mark.end_ns, stack[-1].end_ns) if stack else mark.end_ns
    phase = outer if swallowed and outer is not None else mark.phase
    return Mark(mark.start_ns, end, phase, mark.row, mark.detail)


def _named(pieces: list[tuple[int, int, Mark | None]]) -> Iterator[Segment]:
    marked = [mark.phase if mark is not None else None for _, _, mark in pieces]
    for index, (start, end, mark) in enumerate(pieces):
        if mark is not None:
            yield Segment(start, end, mark.phase, row=mark.row)
            continue
        before = next((p for p in reversed(marked[:index]) if p is not None), START)
        after = next((p for p in marked[index + 1 :] if p is not None), END)
        if before == after == Phase.EVALUATION:
            yield Segment(start, end, Phase.EVALUATION)
        else:
            yield Segment(start, end, Phase.NOBODY, gap=(before, after))
