"""A step cut at its marks: hand-made marks, and the one invariant, that durations sum to the step."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from longpole.analysis.segments import Mark, segments_of
from longpole.trace import Phase, StepWindow

D, F, B, V = Phase.DATA, Phase.FORWARD, Phase.BACKWARD, Phase.EVALUATION
U, L = Phase.OPTIMIZER, Phase.LOSS
NOBODY = Phase.NOBODY


def cut(length: int, *marks: tuple[Phase, int, int]) -> list[tuple[Phase, int]]:
    """(phase, duration) of each segment of a step from 0 to `length`."""
    found = segments_of(StepWindow(0, 0, length, 1), [Mark(s, e, p, row, -1) for row, (p, s, e) in enumerate(marks)])
    return [(segment.phase, segment.end_ns - segment.start_ns) for segment in found]


def test_marks_and_the_gaps_between_them() -> None:
    marks = [(D, 1, 3), (F, 5, 9), (B, 9, 14)]
    assert cut(15, *marks) == [(NOBODY, 1), (D, 2), (NOBODY, 2), (F, 4), (B, 5), (NOBODY, 1)]


def test_a_gap_knows_its_neighbours() -> None:
    step = StepWindow(0, 0, 10, 1)
    found = segments_of(step, [Mark(2, 4, D, 0, -1), Mark(6, 10, F, 1, -1)])
    assert [segment.gap for segment in found if segment.gap] == [(NOBODY, D), (D, F)]


def test_a_closure_is_forward_and_backward_inside_of_the_optimizer() -> None:
    assert cut(20, (U, 0, 20), (F, 2, 6), (B, 7, 15)) == [(U, 2), (F, 4), (U, 1), (B, 8), (U, 5)]


def test_a_forward_inside_of_backward_is_recomputation() -> None:
    assert sum(length for phase, length in cut(20, (B, 0, 20), (F, 2, 6)) if phase == B) == 20


def test_what_is_inside_of_an_evaluation_is_evaluation() -> None:
    assert sum(length for phase, length in cut(10, (V, 0, 10), (L, 4, 6)) if phase == V) == 10


def test_time_between_two_evaluations_is_evaluation() -> None:
    assert cut(12, (V, 1, 4), (V, 6, 9)) == [(NOBODY, 1), (V, 3), (V, 2), (V, 3), (NOBODY, 3)]


def test_a_step_without_marks_is_one_gap() -> None:
    assert cut(7) == [(NOBODY, 7)]


def test_a_mark_that_outlives_the_step_is_cut_there() -> None:
    assert cut(10, (F, 6, 30)) == [(NOBODY, 6), (F, 4)]


@given(
    st.integers(1, 60), st.lists(st.tuples(st.sampled_from(list(Phase)[1:]), st.integers(0, 59), st.integers(0, 40)))
)
def test_segments_are_in_order_without_overlap_and_sum_to_the_step(
    length: int, spans: list[tuple[Phase, int, int]]
) -> None:
    inside = sorted((s for s in spans if s[1] < length), key=lambda span: (span[1], -span[2]))
    marks = [Mark(start, start + size, phase, row, -1) for row, (phase, start, size) in enumerate(inside)]
    found = segments_of(StepWindow(0, 0, length, 1), marks)
    assert [found[0].start_ns, found[-1].end_ns] == [0, length]
    for before, after in itertools.pairwise(found):
        assert before.end_ns == after.start_ns
    assert all(segment.end_ns > segment.start_ns for segment in found)
    assert all((segment.phase == NOBODY) == (segment.gap is not None) for segment in found)
