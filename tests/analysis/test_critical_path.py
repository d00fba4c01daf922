"""Critical paths counted by hand, and what is true of every path."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longpole.analysis.clock_alignment import align
from longpole.analysis.critical_edges import graph_of
from longpole.analysis.critical_parts import Columns
from longpole.analysis.critical_path import critical_path, critical_path_of_ranks
from longpole.analysis.critical_walk import Sort, walk
from longpole.analysis.rhythm import device_windows, find_steps
from longpole.analysis.timeline import device_window
from longpole.importers import open_trace, open_traces
from longpole.trace import EventWaits, Kind, Lane, OpClass, Phase, RunInfo, Trace, make_table, nest
from made_traces import kernel, opened, runtime
from shared_paths import trace_files, traces_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from longpole.analysis.device_results import CriticalPath, PathPart

US = 1000
HOST, OTHER_HOST, STREAM, OTHER_STREAM, WAITS = 0, 1, 2, 3, 4
LANES = [
    Lane("main", "host", 1, 1),
    Lane("backward", "host", 1, 2),
    Lane("stream 7", "stream", 0, 7, 0),
    Lane("stream 20", "stream", 0, 20, 0),
    Lane("waits of stream 20", "async", 0, 20, 0),
]
Event = tuple[Kind, str, int, float, float, int]  # kind, name, lane, start and duration in microseconds, correlation


def trace_of(events: Sequence[Event], waits: Sequence[tuple[int, int, int]] = ()) -> Trace:
    """A trace of these events; device events are launched by the call of the same correlation.

    `waits` are (place in `events`, correlation of the record, stream).
    """
    names = list(dict.fromkeys(name for _, name, _, _, _, _ in events))
    calls = {c: place for place, (kind, _, _, _, _, c) in enumerate(events) if kind == Kind.RUNTIME and c > 0}
    on_device = (Kind.KERNEL, Kind.MEMCPY, Kind.MEMSET, Kind.SYNC)
    columns: dict[str, Any] = {
        "start_ns": [round(start * US) for _, _, _, start, _, _ in events],
        "duration_ns": [round(duration * US) for _, _, _, _, duration, _ in events],
        "name": [names.index(name) for _, name, _, _, _, _ in events],
        "kind": [int(kind) for kind, *_ in events],
        "lane": [lane for _, _, lane, _, _, _ in events],
        "correlation": [correlation for *_, correlation in events],
        "launch": [calls.get(c, -1) if kind in on_device else -1 for kind, _, _, _, _, c in events],
    }
    on_host = np.flatnonzero(np.isin(columns["kind"], (Kind.OP, Kind.RUNTIME)))
    times = [np.array(columns[name], dtype=np.int64) for name in ("start_ns", "duration_ns")]
    columns["parent"] = nest(times[0], times[1], np.array(columns["lane"], dtype=np.int32), on_host)
    table = make_table(columns)
    order = np.lexsort((-np.array(columns["duration_ns"]), np.array(columns["start_ns"])))
    moved = {int(old): new for new, old in enumerate(order)}
    rows = [(moved[place], record, stream) for place, record, stream in waits]
    listed = np.array(rows, dtype=np.int64).reshape(-1, 3)
    told = EventWaits(listed[:, 0].astype(np.int32), listed[:, 1].copy(), listed[:, 2].copy())
    return Trace(table, names, LANES, RunInfo(), waits=told)


def launch(start: float, duration: float, correlation: int, name: str = "cudaLaunchKernel", lane: int = HOST) -> Event:
    return (Kind.RUNTIME, name, lane, start, duration, correlation)


def work(name: str, start: float, duration: float, correlation: int, lane: int = STREAM) -> Event:
    return (Kind.KERNEL, name, lane, start, duration, correlation)


def in_us(parts: Sequence[PathPart]) -> dict[str, float]:
    return {part.what: round(part.ms * 1000, 6) for part in parts}


def path_of(trace: Trace, low: float, high: float) -> CriticalPath:
    found = critical_path(trace, (round(low * US), round(high * US)))
    assert found is not None
    return found


def test_launch_bound_work_is_the_hosts_path() -> None:
    # Each kernel runs 3 us, 6 us after its launch; launches are 20 us apart: the device never holds anybody up.
    events = [event for i in range(5) for event in (launch(20 * i, 5, i + 1), work("k", 20 * i + 6, 3, i + 1))]
    path = path_of(trace_of(events), 0, 89)
    # Back from 89: the last kernel 86-89, its launch 80-86, and the host before that.
    assert in_us(path.parts) == {"host": 80.0, "launch": 6.0, "device": 3.0}
    assert path.exact
    # Of the host's 80 us, launch calls take 5 in each 20.
    assert in_us(path.ops) == {"nothing recorded": 60.0, "cudaLaunchKernel": 20.0, "launch": 6.0, "k": 3.0}


def test_a_queue_that_never_empties_is_the_devices_path() -> None:
    # Launched at 0, 4, 8, 12; each runs 50 us and the next follows after 1.
    starts = [6, 57, 108, 159]
    events = [e for i, s in enumerate(starts) for e in (launch(4 * i, 3, i + 1), work(f"k{i}", s, 50, i + 1))]
    path = path_of(trace_of(events), 0, 209)
    assert in_us(path.parts) == {"device": 200.0, "gap": 3.0, "launch": 6.0}
    assert in_us(path.ops)["k2"] == 50.0


def test_a_host_that_waits_for_the_device_before_each_launch_alternates_with_it() -> None:
    # launch 0-5, kernel 8-58, sync returns 2 us after it; launch 70-75, kernel 78-128, sync until 130; host to 140.
    events = [
        launch(0, 5, 1),
        work("a", 8, 50, 1),
        launch(6, 54, 2, "cudaDeviceSynchronize"),
        launch(70, 5, 3),
        work("b", 78, 50, 3),
        launch(76, 54, 4, "cudaDeviceSynchronize"),
        (Kind.OP, "aten::item", HOST, 130, 10, -1),
    ]
    path = path_of(trace_of(events), 0, 140)
    assert in_us(path.parts) == {"device": 100.0, "host": 20.0, "launch": 16.0, "synchronization": 4.0}
    assert in_us(path.op_classes)["synchronization"] == 4.0


def two_streams(waits: Sequence[tuple[int, int, int]], sync: bool) -> Trace:
    """b on stream 20 begins when a on stream 7 has ended, since a wait for an event recorded after a says so."""
    events = [
        launch(0, 4, 1),
        work("a", 10, 80, 1),
        launch(5, 1, 2, "cudaEventRecord"),
        launch(7, 1, 3, "cudaStreamWaitEvent"),
        launch(9, 4, 4),
        work("b", 91, 40, 4, OTHER_STREAM),
    ]
    if sync:
        events.append((Kind.SYNC, "Stream Wait Event", WAITS, 7, 1, 3))
    return trace_of(events, waits)


def test_a_recorded_wait_between_streams_is_followed() -> None:
    path = path_of(two_streams([(6, 2, 7)], sync=True), 0, 131)
    assert path.exact
    # b 91-131, 1 us until it began, a 10-90, launch 0-10.
    assert in_us(path.parts) == {"device": 120.0, "launch": 10.0, "gap": 1.0}


def test_where_waits_were_not_recorded_both_answers_are_given() -> None:
    path = path_of(two_streams([], sync=False), 0, 131)
    assert not path.exact
    assert "Bounds" in path.notes[0]
    parts = {part.what: part for part in path.parts}
    # Without the edge: b 91-131 and its launch from 9 on, the host before.
    assert (parts["device"].low, parts["device"].high) == (pytest.approx(40 / 131), pytest.approx(120 / 131))
    assert (parts["launch"].low, parts["launch"].high) == (pytest.approx(10 / 131), pytest.approx(82 / 131))
    assert parts["device"].ms == pytest.approx(0.120)


def test_streams_that_never_waited_for_each_other_need_no_bounds() -> None:
    events = [launch(0, 4, 1), work("a", 10, 80, 1), launch(9, 4, 4), work("b", 15, 100, 4, OTHER_STREAM)]
    path = path_of(trace_of(events), 0, 115)
    assert path.exact
    assert in_us(path.ops) == {"b": 100.0, "cudaLaunchKernel": 4.0, "launch": 6.0, "nothing recorded": 5.0}


def test_a_stream_synchronize_of_unknown_stream_is_only_possible() -> None:
    events = [
        launch(0, 4, 1),
        work("a", 6, 60, 1),
        launch(5, 4, 2),
        work("b", 11, 30, 2, OTHER_STREAM),
        launch(10, 58, 3, "cudaStreamSynchronize"),
        (Kind.OP, "aten::item", HOST, 68, 12, -1),
    ]
    path = path_of(trace_of(events), 0, 80)
    parts = {part.what: part for part in path.parts}
    assert (parts["host"].low, parts["host"].high) == (pytest.approx(12 / 80), 1.0)
    assert not path.exact


def test_the_thread_that_does_backward_hands_over_to_the_one_that_waited_for_it() -> None:
    events = [
        (Kind.OP, "aten::linear", HOST, 0, 30, -1),
        (Kind.OP, "autograd::engine::evaluate_function: AddmmBackward0", OTHER_HOST, 35, 60, -1),
        launch(40, 4, 1, lane=OTHER_HOST),
        work("gradient", 50, 4, 1),
        (Kind.OP, "aten::_foreach_add_", HOST, 100, 20, -1),
        launch(105, 4, 2),
        work("update", 112, 3, 2),
    ]
    path = path_of(trace_of(events), 0, 115)
    ops = in_us(path.ops)
    assert ops["autograd::engine::evaluate_function: AddmmBackward0"] == 56.0
    assert ops["aten::linear"] == 30.0
    assert in_us(path.parts) == {"host": 105.0, "launch": 7.0, "device": 3.0}


def test_work_launched_before_the_recording_leaves_the_path_short_and_says_so() -> None:
    path = path_of(trace_of([work("a", 50, 20, -1), work("b", 72, 20, -1)]), 0, 92)
    assert (path.path_ms, path.window_ms) == (pytest.approx(0.042), pytest.approx(0.092))
    assert in_us(path.parts) == {"device": 40.0, "gap": 2.0}
    assert "0.050 ms after the window's start" in path.notes[0]


def test_where_most_work_has_no_launch_the_host_is_not_called_the_path() -> None:
    """The window ends on the host, which launched one kernel of three: for what the others waited is not known."""
    old = [work("old", 10.0 * index, 5, 0) for index in range(2)]
    events = [*old, launch(0, 90, 1), work("k", 40, 10, 1), launch(95, 5, 2)]
    assert critical_path(trace_of(events), (0, 100 * US)) is None
    launched = [launch(0, 1, 3), launch(5, 1, 4), work("a", 10, 5, 3), work("b", 20, 5, 4), *events[2:]]
    assert critical_path(trace_of(launched), (0, 100 * US)) is not None


def test_attribution_that_is_given_is_used() -> None:
    trace = trace_of([launch(0, 5, 1), work("k", 8, 50, 1)])
    count = len(trace.events)
    layer = np.where(trace.events.kind == Kind.KERNEL, 0, -1)
    given = Columns(np.full(count, int(Phase.BACKWARD)), np.full(count, int(OpClass.MATMUL)), layer, ["blocks.0.mlp"])
    path = critical_path(trace, (0, 58 * US), given)
    assert path is not None
    assert in_us(path.phases) == {"backward": 58.0}
    assert in_us(path.op_classes) == {"matmul": 50.0, "launch": 8.0}
    assert in_us(path.layers) == {"blocks.0.mlp": 58.0}


def test_no_device_work_in_the_window_is_no_path() -> None:
    assert critical_path(trace_of([(Kind.OP, "aten::mm", HOST, 0, 5, -1)]), (0, 5000)) is None
    assert critical_path(trace_of([launch(0, 5, 1), work("k", 8, 50, 1)]), (100 * US, 200 * US)) is None


launches = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 30), st.integers(0, 60), st.booleans(), st.integers(0, 40)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(launches, st.lists(st.tuples(st.integers(0, 500), st.integers(0, 80)), max_size=4), st.integers(0, 200))
def test_every_path_fits_the_window_and_its_parts_sum_to_it(
    drawn: list[tuple[int, int, int, bool, int]], syncs: list[tuple[int, int]], low: int
) -> None:
    # Anything at all, also what no machine does: work before its launch, overlaps on a stream.
    events: list[Event] = []
    for place, (start, call, delay, other, duration) in enumerate(drawn):
        events.append(launch(start, call, place + 1, lane=OTHER_HOST if other else HOST))
        events.append(work("k", start + delay - 5, duration, place + 1, OTHER_STREAM if other else STREAM))
    events += [launch(start, duration, 100 + i, "cudaStreamSynchronize") for i, (start, duration) in enumerate(syncs)]
    events += [launch(start, 1, 200 + i, "cudaStreamWaitEvent") for i, (start, _) in enumerate(syncs)]
    trace = trace_of(events)
    whole = device_window(trace)
    assert whole is not None
    path = critical_path(trace, (low * US, whole[1]))
    if path is None:
        return
    assert path.path_ms <= path.window_ms + 1e-9
    for parts in (path.parts, path.op_classes, path.phases):
        assert sum(part.ms for part in parts) == pytest.approx(path.path_ms)
        assert all(part.ms >= 0 for part in parts)
        assert all(
            part.low <= part.share <= part.high for part in parts if part.low is not None and part.high is not None
        )


@settings(max_examples=80, deadline=None)
@given(launches)
def test_segments_follow_one_another_without_a_hole(drawn: list[tuple[int, int, int, bool, int]]) -> None:
    events: list[Event] = []
    for place, (start, call, delay, other, duration) in enumerate(drawn):
        events.append(launch(start, call, place + 1))
        events.append(work("k", start + call + delay, duration, place + 1, OTHER_STREAM if other else STREAM))
    trace = trace_of(events)
    window = device_window(trace)
    assert window is not None
    path = walk({0: graph_of(trace)}, 0, window, {}, possible=True)
    assert np.array_equal(path.start_ns[:-1], path.end_ns[1:])
    assert len(path.sort) == 0 or path.end_ns[0] == window[1]
    assert set(path.sort.tolist()) <= {int(sort) for sort in Sort}


@pytest.mark.parametrize("path", trace_files(), ids=lambda path: path.name[:60])
def test_recorded_traces_have_a_path_through_the_whole_recording(path: Path) -> None:
    trace = open_trace(path)
    window = device_window(trace)
    if window is None:
        return
    found = critical_path(trace, window)
    assert found is not None
    assert found.path_ms <= found.window_ms + 1e-6
    assert sum(part.ms for part in found.op_classes) == pytest.approx(found.path_ms)
    assert found.path_ms >= 0.99 * found.window_ms


def test_the_step_of_a_rank_that_waits_is_decided_on_the_rank_that_it_waits_for() -> None:
    paths = sorted(traces_folder().glob("moddednanogpt__*rank[0-7]*"))
    if len(paths) < 8:
        pytest.skip("the eight recorded H100 ranks are not here")
    traces = open_traces(paths)
    step = device_windows(traces[7], find_steps(traces[7])[0])[1]
    window = (step.start_ns, step.end_ns)
    alone = critical_path(traces[7], window)
    across = critical_path_of_ranks(traces, 7, window, align(traces))
    assert alone is not None
    assert across is not None
    assert next(part.share for part in alone.parts if part.what == "device") > 0.9
    assert across.ranks[0].what == "rank 1"
    assert across.ranks[0].share > 0.9
    assert across.parts[0].what == "host"


def test_a_wait_in_a_collective_leads_to_the_last_ranks_work(tmp_path: Path) -> None:
    told = {"Collective_name": "allreduce", "Group_size": 2, "Process_Group_Name": "dp"}
    name = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)"
    waiting = [runtime("cudaLaunchKernel", 0, 4, 1), kernel(name, 10, 90, 20, 1, **told)]
    late = [
        runtime("cudaLaunchKernel", 0, 2, 1),
        kernel("gemm", 10, 80, 20, 1),
        runtime("cudaLaunchKernel", 3, 2, 2),
        kernel(name, 90, 10, 20, 2, **told),
    ]
    for rank in (0, 1):
        (tmp_path / str(rank)).mkdir()
    # Rank 1's clock is 7 ms ahead.
    moved = [{**event, "ts": event["ts"] + 7000} for event in late]
    traces = [
        opened(tmp_path / str(rank), events, distributedInfo={"rank": rank, "world_size": 2})
        for rank, events in enumerate((waiting, moved))
    ]
    start = int(traces[0].events.start_ns.min())
    path = critical_path_of_ranks(traces, 0, (start, start + 100 * US), align(traces))
    assert path is not None
    # The transfer 90-100 on rank 0; then rank 1: its gemm 10-90, launched from 0 on.
    assert in_us(path.ranks) == {"rank 1": 90.0, "rank 0": 10.0}
    assert in_us(path.ops) == {"gemm": 80.0, name: 10.0, "launch": 10.0}


def test_an_unaligned_rank_is_studied_alone() -> None:
    trace = trace_of([launch(0, 5, 1), work("k", 8, 50, 1)])
    other = replace(trace)
    found = critical_path_of_ranks([trace, other], 0, (0, 58 * US), align([trace, other]))
    assert found is not None
    assert found.ranks == []
    assert in_us(found.parts) == {"device": 50.0, "launch": 8.0}
