"""Every recorded trace opens, and its device time is what interval arithmetic on its raw stamps says."""

from __future__ import annotations

import json

import pytest

import shared_paths
from longpole.analysis.timeline import timeline
from longpole.importers import open_trace

FILES = shared_paths.trace_files()
EXACT_FILE = shared_paths.traces_folder() / "EXACT.json"
EXACT = json.loads(EXACT_FILE.read_text()) if EXACT_FILE.is_file() else {}
TOLERANCE = 0.1  # percentage points
ABSENT = "no recorded traces: put them in ../shared/traces or name their folder in LONGPOLE_TRACES"
FIELDS = {
    "idle_pct": "idle",
    "comp_pct": "compute",
    "comm_pct": "communication",
    "exposed_comm_pct": "exposed_communication",
    "mem_pct": "memory_copy",
}


@pytest.mark.skipif(not FILES, reason=ABSENT)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name[:60])
def test_opens_and_device_time_is_exact(path) -> None:
    found = timeline(open_trace(path))
    exact = EXACT.get(path.name)
    if exact is None:
        assert found is None  # the file has no device event
        return
    assert found is not None
    shares = {field: 100 * getattr(found, attribute).share for field, attribute in FIELDS.items()}
    assert shares == {field: pytest.approx(exact[field], abs=TOLERANCE) for field in FIELDS}
    assert found.span_ms == pytest.approx(exact["span"] / 1e3, rel=1e-6)


@pytest.mark.skipif(not FILES, reason=ABSENT)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name[:60])
def test_tables_of_recorded_traces_hold_together(path) -> None:
    trace = open_trace(path)
    events = trace.events
    assert (events.duration_ns >= 0).all()
    assert (events.start_ns[1:] >= events.start_ns[:-1]).all()
    assert events.lane.min() >= 0
    assert events.lane.max() < len(trace.lanes)
    inside = events.parent >= 0
    parents = events.parent[inside]
    assert (events.start_ns[parents] <= events.start_ns[inside]).all()
    assert (events.end_ns[parents] > events.start_ns[inside]).all()
    assert (events.lane[parents] == events.lane[inside]).all()
    assert events.name.max() < len(trace.strings)
    assert not trace.info.warnings


@pytest.mark.skipif(not FILES, reason=ABSENT)
def test_the_eight_rank_run_opens_in_parallel_and_sorted_by_rank() -> None:
    from longpole.importers import open_traces

    paths = [path for path in FILES if path.name.startswith("moddednanogpt__")]
    traces = open_traces(paths, workers=2)
    assert [trace.info.rank for trace in traces] == list(range(8))
    assert {trace.info.world_size for trace in traces} == {8}
    assert {trace.info.device for trace in traces} == {"NVIDIA H100 80GB HBM3"}
