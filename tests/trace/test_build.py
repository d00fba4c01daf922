"""A trace in the making: rows in any order become one sorted, nested table, and pointers follow."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longpole.trace import Kind
from longpole.trace.build import Piece, TraceBuilder, events_piece
from longpole.trace.trace import Lane, Layer


def piece(builder: TraceBuilder, rows: list[tuple[int, int, str, Kind]], **more: list[int]) -> Piece:
    """Rows of (start, duration, name, kind) on lane 0."""
    starts, durations, names, kinds = zip(*rows, strict=True)
    columns = {
        "start_ns": starts,
        "duration_ns": durations,
        "name": [builder.intern(name) for name in names],
        "kind": kinds,
        "lane": [0] * len(rows),
        **more,
    }
    return events_piece({name: np.asarray(column) for name, column in columns.items()})


def started() -> TraceBuilder:
    builder = TraceBuilder()
    builder.lane(Lane("training thread", "host"))
    return builder


def test_rows_of_several_pieces_nest_in_each_other() -> None:
    builder = started()
    builder.add(piece(builder, [(10, 50, "backward", Kind.PHASE), (0, 9, "forward", Kind.PHASE)]))
    builder.add(piece(builder, [(20, 5, "mm", Kind.OP), (2, 3, "add", Kind.OP), (21, 2, "copy", Kind.OP)]))
    trace = builder.build()
    assert [trace.name_of(row) for row in range(5)] == ["forward", "add", "backward", "mm", "copy"]
    assert trace.events.parent.tolist() == [-1, 0, -1, 2, 3]


def test_layer_calls_follow_their_rows() -> None:
    builder = started()
    builder.layers = [Layer("a"), Layer("b")]
    calls = [(100, 10, "b", Kind.LAYER), (0, 10, "a", Kind.LAYER)]
    builder.add(piece(builder, calls, layer=[1, 0], sequence=[7, 3], last_sequence=[9, 5]))
    builder.add(piece(builder, [(1, 2, "mm", Kind.OP)]))
    trace = builder.build()
    assert [trace.name_of(int(row)) for row in trace.calls.row] == ["a", "b"]
    assert trace.calls.layer.tolist() == [0, 1]
    assert (trace.calls.first.tolist(), trace.calls.last.tolist()) == ([3, 7], [5, 9])


def test_columns_that_a_piece_lacks_are_not_known() -> None:
    builder = started()
    builder.add(piece(builder, [(0, 1, "a", Kind.OP)], sequence=[5]))
    builder.add(piece(builder, [(5, 1, "b", Kind.OP)]))
    assert builder.build().events.sequence.tolist() == [5, -1]


def test_nothing_recorded_is_an_empty_trace() -> None:
    builder = TraceBuilder()
    builder.add(events_piece({}))
    trace = builder.build()
    assert len(trace.events) == len(trace.samples.time_ns) == len(trace.gradients.sequence) == 0


def test_building_may_be_done_again_later() -> None:
    builder = started()
    builder.add(piece(builder, [(0, 1, "a", Kind.OP)]))
    assert len(builder.build().events) == 1
    builder.add(piece(builder, [(5, 1, "b", Kind.OP)]))
    assert len(builder.build().events) == 2
    assert len(builder.build().events) == 2


def test_a_lane_is_known_again() -> None:
    builder = started()
    assert builder.lane(Lane("thread 5", "host", thread=5)) == 1
    assert builder.lane(Lane("training thread", "host")) == 0


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), min_size=1, max_size=25))
def test_parents_enclose_by_brute_force(spans: list[tuple[int, int]]) -> None:
    """The innermost enclosing event is the one that started last among those still open."""
    builder = started()
    builder.add(piece(builder, [(start, length, "op", Kind.OP) for start, length in spans]))
    events = builder.build().events
    for row in range(len(events)):
        open_rows = [before for before in range(row) if events.end_ns[before] > events.start_ns[row]]
        assert events.parent[row] == (open_rows[-1] if open_rows else -1)
