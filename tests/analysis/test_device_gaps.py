"""Why a device is idle: made gaps of every cause, and any gaps at all sum to the idleness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.analysis.device_attribution import attribute
from longpole.analysis.device_exclusive import device_pieces
from longpole.analysis.device_gap_table import gap_table
from longpole.analysis.device_gaps import Cause, find_gaps, idle_by_cause
from longpole.analysis.device_phases import host_phases
from longpole.analysis.intervals import complement, total, union
from longpole.analysis.timeline import timeline
from longpole.trace import Kind, Lane, RunInfo, Trace, make_table, nest
from made_traces import kernel, opened, runtime, span

if TYPE_CHECKING:
    from pathlib import Path


def causes(trace: Trace) -> dict[str, float]:
    """Microseconds of each cause between the first and the last device event."""
    _, found = attribute(trace)
    pieces = device_pieces(trace)
    low, high = int(pieces.start_ns.min()), int(pieces.end_ns.max())
    ns = idle_by_cause(find_gaps(trace, pieces, found.host_phase, low, high), low, high)
    return {cause.name.lower(): ns[cause] / 1e3 for cause in Cause if ns[cause]}


def launch(at: float, number: int) -> dict[str, Any]:
    return runtime("cudaLaunchKernel", at, 10, number)


# In each: a kernel until 100, launched at 50; the next starts at 400.
BEFORE = [launch(50, 1), kernel("first", 70, 30, correlation=1)]


def test_a_host_that_issues_too_late_is_launch(tmp_path: Path) -> None:
    trace = opened(tmp_path, [*BEFORE, launch(385, 2), kernel("next", 400, 50, correlation=2)])
    assert causes(trace) == {"launch": 300}


def test_a_host_busy_for_longer_than_issuing_takes_is_host(tmp_path: Path) -> None:
    trace = opened(tmp_path, [*BEFORE, launch(985, 2), kernel("next", 1000, 50, correlation=2)])
    # the launch returns at 995: until then the host was at something else, then the launch itself takes 5
    assert causes(trace) == {"host": 895, "launch": 5}


def test_fetching_counts_as_data_only_while_it_lasts(tmp_path: Path) -> None:
    data = span("user_annotation", "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 80, 250)
    trace = opened(tmp_path, [*BEFORE, data, launch(385, 2), kernel("next", 400, 50, correlation=2)])
    assert causes(trace) == {"data": 230, "launch": 70}


def test_a_host_that_waited_for_the_device_is_late_because_of_it(tmp_path: Path) -> None:
    wait = runtime("cudaStreamSynchronize", 65, 45, 7)
    trace = opened(tmp_path, [*BEFORE, wait, launch(385, 2), kernel("next", 400, 50, correlation=2)])
    # until the launch returns at 395: synchronization; the last 5 us are the launch's own
    assert causes(trace) == {"synchronization": 295, "launch": 5}


def test_a_wait_that_ended_long_before_explains_nothing(tmp_path: Path) -> None:
    wait = runtime("cudaStreamSynchronize", 10, 20, 7)
    trace = opened(tmp_path, [*BEFORE, wait, launch(385, 2), kernel("next", 400, 50, correlation=2)])
    assert causes(trace) == {"launch": 300}


def test_a_host_in_a_barrier_waits_for_other_ranks(tmp_path: Path) -> None:
    barrier = span("cpu_op", "gloo:barrier", 110, 200)
    trace = opened(tmp_path, [*BEFORE, barrier, launch(385, 2), kernel("next", 400, 50, correlation=2)])
    assert causes(trace) == {"collective": 200, "launch": 100}


def test_work_that_was_queued_waited_for_another_stream(tmp_path: Path) -> None:
    queued = [launch(60, 2), kernel("next", 400, 50, stream=8, correlation=2)]
    assert causes(opened(tmp_path, [*BEFORE, *queued])) == {"stream": 300}


def test_a_stream_told_to_wait_waited_for_another_stream(tmp_path: Path) -> None:
    told = runtime("cudaStreamWaitEvent", 61, 2, 5)
    queued = [launch(65, 2), kernel("next", 400, 50, correlation=2)]
    assert causes(opened(tmp_path, [*BEFORE, told, *queued])) == {"stream": 300}


def test_short_turns_of_queued_kernels_are_the_devices_own(tmp_path: Path) -> None:
    queued = [launch(60, 2), kernel("next", 102, 50, correlation=2)]
    assert causes(opened(tmp_path, [*BEFORE, *queued])) == {"device": 2}


def test_long_waits_of_queued_work_are_not_explained_away(tmp_path: Path) -> None:
    queued = [launch(60, 2), kernel("next", 400, 50, correlation=2)]
    assert causes(opened(tmp_path, [*BEFORE, *queued])) == {"unknown": 300}


def test_without_a_launch_the_cause_is_not_known(tmp_path: Path) -> None:
    trace = opened(tmp_path, [*BEFORE, kernel("next", 400, 50, correlation=99)])
    assert causes(trace) == {"unknown": 300}


def test_work_that_starts_long_after_its_launch_does_not_blame_the_host(tmp_path: Path) -> None:
    # launched at 110, returned at 120; from then on the device could have started, and did so 1880 us later
    trace = opened(tmp_path, [*BEFORE, launch(110, 2), kernel("next", 2000, 50, correlation=2)])
    assert causes(trace) == {"launch": 20, "unknown": 1880}


def test_what_the_host_did_before_its_first_launch_is_no_issuing(tmp_path: Path) -> None:
    # work of before the recording ends at 10; the host prepares data from 0 to 900 and launches only then
    left_over, read = kernel("left over", 0, 10), span("cpu_op", "aten::resize_", 0, 900)
    trace = opened(tmp_path, [left_over, read, launch(905, 2), kernel("next", 920, 50, correlation=2)])
    assert causes(trace) == {"host": 905, "launch": 5}


def test_the_table_sums_to_the_idleness_and_says_why(tmp_path: Path) -> None:
    data = span("user_annotation", "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", 80, 250)
    trace = opened(tmp_path, [*BEFORE, data, launch(385, 2), kernel("next", 400, 50, correlation=2)])
    _, found = attribute(trace)
    pieces = device_pieces(trace)
    rows = gap_table(trace, found, find_gaps(trace, pieces, found.host_phase, 70_000, 450_000))
    assert [(row.cause, row.ms, row.count) for row in rows] == [("data", 0.23, 1), ("launch", 0.07, 1)]
    assert all(row.evidence for row in rows)
    line = timeline(trace)
    assert line is not None
    assert sum(row.ms for row in rows) == pytest.approx(line.idle.ms)
    assert sum(row.share for row in rows) == pytest.approx(line.idle.share)


# (start, length, launched how long before, stream) of device work; -1: no launch is known
WORK = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(0, 200), st.integers(-1, 900), st.integers(0, 2)),
    min_size=1,
    max_size=15,
)
HOST = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(1, 600), st.sampled_from(["data", "sync", "op"])), max_size=8
)
NAMES = ["kernel", "cudaLaunchKernel", "enumerate(DataLoader)#x", "cudaStreamSynchronize", "aten::mm"]
ROWS = {"data": (2, Kind.ANNOTATION), "sync": (3, Kind.RUNTIME), "op": (4, Kind.OP)}


def made(work: list[tuple[int, int, int, int]], host: list[tuple[int, int, str]]) -> Trace:
    """A trace with device work on three streams and one host thread; times in microseconds."""
    rows: list[tuple[int, int, int, int, int, int]] = []  # start, length, name, kind, lane, launch
    for start, length, ahead, stream in work:
        if ahead >= 0:
            rows.append((start - ahead, 3, 1, Kind.RUNTIME, 0, -1))
        rows.append((start, length, 0, Kind.KERNEL, 1 + stream, len(rows) - 1 if ahead >= 0 else -1))
    rows += [(start, length, *ROWS[what], 0, -1) for start, length, what in host]
    columns = np.array(rows, dtype=np.int64).T
    start, length = columns[0] * 1000, columns[1] * 1000
    lane = columns[4].astype(np.int32)
    parent = nest(start, length, lane, np.flatnonzero(lane == 0))
    table = make_table(
        {
            "start_ns": start,
            "duration_ns": length,
            "name": columns[2],
            "kind": columns[3],
            "lane": lane,
            "launch": columns[5],
            "parent": parent,
        }
    )
    lanes = [Lane("thread", "host", thread=1), *(Lane(f"stream {i}", "stream", device=0, thread=i) for i in range(3))]
    return Trace(table, NAMES, lanes, RunInfo())


@given(WORK, HOST, st.integers(-200, 1000), st.integers(0, 3500))
def test_causes_sum_to_the_idleness_of_any_window(
    work: list[tuple[int, int, int, int]], host: list[tuple[int, int, str]], low: int, length: int
) -> None:
    trace = made(work, host)
    pieces = device_pieces(trace)
    low, high = low * 1000, (low + length) * 1000
    gaps = find_gaps(trace, pieces, host_phases(trace), low, high)
    idle = complement(union(pieces.start_ns, pieces.end_ns), low, high)
    assert int(idle_by_cause(gaps, low, high).sum()) == total(idle)
    assert np.all(gaps.start_ns[1:] >= gaps.end_ns[:-1])  # sorted and disjoint
    assert np.all(gaps.end_ns > gaps.start_ns)
