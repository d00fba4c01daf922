"""The ledger on steps written by hand: gaps divided as they were sampled, and parts that sum to the step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.analysis.ledger import Ledger, make_ledger, with_inner_loss
from longpole.trace import Kind, Level, Phase, StepWindow
from longpole.trace.build import Piece, TraceBuilder, events_piece
from longpole.trace.trace import Lane, RunInfo, Trace

MS = 1_000_000
STEP_MS = 100
Spans = list[tuple[str, int, int]]
DATA_THEN_FORWARD: Spans = [("data", 0, 10), ("forward", 40, 60)]


def trace_of(
    steps: list[tuple[Level, Spans]], samples: list[tuple[int, float, Phase, str]] | None = None, **facts: str
) -> Trace:
    """Steps of 100 ms with marks (name, from, to); samples are (step, at ms, phase by dataflow, place)."""
    builder = TraceBuilder()
    builder.lane(Lane("training thread", "host"))
    builder.info = RunInfo(facts=facts)
    for index, (level, spans) in enumerate(steps):
        start = index * STEP_MS * MS
        builder.steps.append(StepWindow(index, start, start + STEP_MS * MS, level))
        if spans:
            columns = {
                "start_ns": [start + begin * MS for _, begin, _ in spans],
                "duration_ns": [(end - begin) * MS for _, begin, end in spans],
                "name": [builder.intern(name) for name, _, _ in spans],
                "kind": [Kind.PHASE] * len(spans),
                "lane": [0] * len(spans),
            }
            builder.add(events_piece({name: np.array(column) for name, column in columns.items()}))
    if samples:
        rows = {
            "time_ns": [int((step * STEP_MS + at) * MS) for step, at, _, _ in samples],
            "loop_line": [builder.intern(place) for *_, place in samples],
            "site": [builder.intern(place) for *_, place in samples],
            "flow": [int(phase) for _, _, phase, _ in samples],
        }
        builder.add(Piece({}, {name: np.array(column) for name, column in rows.items()}, {}))
    return builder.build()


def test_a_gap_is_divided_as_it_was_sampled() -> None:
    """Between data and forward 30 ms, from 10 to 40; samples at 12 and 20 are in the batch function, one at 30 is
    logging. The usual distance is 9: they stand for 4.5 + 4, 4 + 5, and 5 + 4.5."""
    steps = [(Level.PHASES, DATA_THEN_FORWARD)] * 2 + [(Level.SITES, DATA_THEN_FORWARD)]
    seen = [
        (2, 12, Phase.DATA, "a:1 in fetch"),
        (2, 20, Phase.DATA, "a:1 in fetch"),
        (2, 30, Phase.NOBODY, "a:9 in log"),
    ]
    ledger = make_ledger(trace_of(steps, seen))
    assert ledger.mean_ms(Phase.DATA) == pytest.approx(10 + 30 * 17.5 / 27)
    assert ledger.mean_ms(Phase.OTHER) == pytest.approx(30 * 9.5 / 27)
    assert ledger.mean_ms(Phase.FORWARD) == pytest.approx(20)
    assert ledger.mean_ms(Phase.NOBODY) == pytest.approx(40), "after the forward nothing was sampled"
    assert dict(ledger.sites[Phase.DATA])["a:1 in fetch"] == pytest.approx(30 * 17.5 / 27)
    assert ledger.gap_ms[Phase.DATA] == pytest.approx(30 * 17.5 / 27)


def test_a_line_shorter_than_the_period_of_the_samples_has_its_due() -> None:
    """Before backward begins at 46 come 40 ms of data and 6 of forward; a sample every 10 ms, wherever it starts.

    In 30 of 50 steps one falls into the 6 ms. To give data what lies behind its last sample in the other 20 would
    make 6 ms 4.8.
    """
    spans: Spans = [("backward", 46, 100)]
    offsets = [index / 5 + 0.1 for index in range(50)]
    times = [(step, offset + 10 * turn) for step, offset in enumerate(offsets, 2) for turn in range(10)]
    seen = [(step, at, Phase.DATA if at < 40 else Phase.FORWARD, "t.py:1") for step, at in times]
    ledger = make_ledger(trace_of([(Level.PHASES, spans)] * 2 + [(Level.SITES, spans)] * 50, seen))
    assert ledger.mean_ms(Phase.DATA) == pytest.approx(40)
    assert ledger.mean_ms(Phase.FORWARD) == pytest.approx(6)


def test_marked_time_goes_to_the_lines_sampled_in_it() -> None:
    steps = [(Level.PHASES, DATA_THEN_FORWARD), (Level.SITES, DATA_THEN_FORWARD)]
    seen = [
        (1, 45, Phase.NOBODY, "m:1"),
        (1, 50, Phase.NOBODY, "m:1"),
        (1, 55, Phase.NOBODY, "m:2"),
        (1, 58, Phase.NOBODY, "m:1"),
    ]
    ledger = make_ledger(trace_of(steps, seen))
    # the usual distance is 5: they stand for 2.5 + 2.5, 2.5 + 2.5, 2.5 + 1.5 and 1.5 + 2.5 of 20 ms
    expected = [("m:1", pytest.approx(20 * 14 / 18)), ("m:2", pytest.approx(20 * 4 / 18))]
    assert ledger.sites[Phase.FORWARD] == expected


def test_an_unsampled_gap_is_named_by_the_lines_at_its_ends() -> None:
    facts = {"line of data": "t.py:3", "line of forward": "t.py:5"}
    ledger = make_ledger(trace_of([(Level.PHASES, DATA_THEN_FORWARD)] * 3, **facts))
    assert dict(ledger.sites[Phase.OTHER])["between t.py:3 and t.py:5"] == pytest.approx(30)
    assert ledger.mean_ms(Phase.NOBODY) == pytest.approx(0)


def test_a_hiccup_is_set_aside_and_counted() -> None:
    steps = [(Level.PHASES, DATA_THEN_FORWARD)] * 20
    trace = trace_of(steps)
    windows = list(trace.steps)
    long = windows[-1]
    longer = StepWindow(long.index, long.start_ns, long.start_ns + 10 * STEP_MS * MS, long.level)
    object.__setattr__(trace, "steps", (*windows[:-1], longer))
    ledger = make_ledger(trace)
    assert ledger.wall_ms.tolist() == [100.0] * 19
    assert ledger.set_aside_ms == [1000.0]
    assert ledger.kept == [True] * 19 + [False]


def test_no_timed_step_is_said_so() -> None:
    with pytest.raises(ValueError, match="no measured step"):
        make_ledger(trace_of([(Level.NONE, [])]))


ROLLOUT: Spans = [("evaluation", 0, 80), ("forward", 80, 100)]
TRAINED: Spans = [("forward", 0, 20)]


def test_an_evaluation_that_falls_beside_the_timed_steps_is_counted() -> None:
    """Of 12 steps 3 have one of 80 ms, none of them timed, one in a deep step and slower there: 20 ms."""
    slow: Spans = [("evaluation", 0, 95), ("forward", 95, 100)]
    steps = [(Level.NONE, [])] * 5  # the warm-up, whose marks are not kept, says nothing
    steps += [(Level.PHASES, TRAINED)] * 4 + [(Level.SITES, ROLLOUT)] + [(Level.PHASES, TRAINED)] * 4
    steps += [(Level.NONE, ROLLOUT), (Level.OPS, slow), (Level.GRADIENTS, TRAINED)]
    ledger = make_ledger(trace_of(steps))
    assert ledger.mean_ms(Phase.EVALUATION) == pytest.approx(3 / 12 * 80)
    assert ledger.phase_ms.sum(axis=1) == pytest.approx(ledger.wall_ms)
    assert np.median(ledger.wall_ms) == pytest.approx(100), "the usual step has none"


def test_evaluations_that_fall_on_timed_steps_only_are_no_more_than_they_are() -> None:
    """Two of 8 timed steps, none of 8 others: 10 ms a step and not 20."""
    steps = [(Level.PHASES, ROLLOUT)] * 2 + [(Level.PHASES, TRAINED)] * 6 + [(Level.SITES, TRAINED)] * 8
    assert make_ledger(trace_of(steps)).mean_ms(Phase.EVALUATION) == pytest.approx(2 / 16 * 80)


def test_what_is_saved_in_each_step_is_as_it_was_timed() -> None:
    shorter: Spans = [("checkpoint", 0, 40), ("forward", 80, 100)]
    longer: Spans = [("checkpoint", 0, 80), ("forward", 80, 100)]
    ledger = make_ledger(trace_of([(Level.PHASES, shorter)] * 4 + [(Level.SITES, longer)] * 4))
    assert ledger.phase_ms[:, Phase.CHECKPOINT].tolist() == [40.0] * 4


NAMES = ("data", "forward", "loss", "backward", "optimizer", "evaluation", "checkpoint", "clip")
SPANS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 99), st.integers(0, 99)), max_size=6)
SAMPLES = st.lists(st.tuples(st.integers(0, 5), st.floats(0, 99), st.sampled_from(list(Phase)), st.sampled_from("abc")))


@given(st.lists(SPANS, min_size=6, max_size=6), SAMPLES)
def test_phases_sum_to_the_step_and_places_to_no_more_than_their_phase(
    spans: list[Spans], samples: list[tuple[int, float, Phase, str]]
) -> None:
    steps = [
        (Level.PHASES if at % 2 else Level.SITES, [(n, min(a, b), max(a, b)) for n, a, b in step])
        for at, step in enumerate(spans)
    ]
    ledger = make_ledger(trace_of(steps, sorted(samples, key=lambda sample: sample[:2])))
    assert ledger.phase_ms.sum(axis=1) == pytest.approx(ledger.wall_ms)
    regular = ledger.wall_ms - ledger.phase_ms[:, [Phase.EVALUATION, Phase.CHECKPOINT]].sum(axis=1)
    assert (regular <= STEP_MS + 1e-9).all()
    occasional = {"evaluation", "checkpoint", Phase.EVALUATION, Phase.CHECKPOINT}
    if occasional.isdisjoint([found for step in spans for found, *_ in step] + [phase for *_, phase, _ in samples]):
        assert ledger.wall_ms == pytest.approx(np.full(3, STEP_MS))
    for phase, places in ledger.sites.items():
        assert sum(ms for _, ms in places) <= ledger.mean_ms(phase) + 1e-9


def test_losses_without_a_mark_move_from_forwards_marks_and_from_its_gaps() -> None:
    """Of 10 ms of forward 4 lie in gaps: a tenth of the marked 6 and half of the 4 are the loss's."""
    phase_ms = np.zeros((2, len(Phase)))
    phase_ms[:, Phase.FORWARD] = (8, 12)
    phase_ms[:, Phase.LOSS] = 1
    before = Ledger(phase_ms.sum(axis=1), phase_ms, gap_ms={Phase.FORWARD: 4.0, Phase.LOSS: 0.25})
    after = with_inner_loss(before, 0.1, 0.5)
    assert after.phase_ms[:, Phase.LOSS].tolist() == pytest.approx([1 + 8 * 0.26, 1 + 12 * 0.26])
    assert after.phase_ms.sum(axis=1).tolist() == pytest.approx(before.wall_ms.tolist())
    assert after.gap_ms == {Phase.FORWARD: 2.0, Phase.LOSS: 2.25}
    assert after.mean_ms(Phase.FORWARD) - after.gap_ms[Phase.FORWARD] == pytest.approx(5.4)
    assert with_inner_loss(before, 0.0, 0.0) is before
