"""A file read in stretches is the file read at once, whatever is in it; where that is not sure, it is read at once."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import made_traces as made
from longpole.errors import LongpoleError
from longpole.importers import json_events, open_trace, stretches, workers
from made_traces import kernel, runtime, same, span
from shared_paths import trace_files

if TYPE_CHECKING:
    from pathlib import Path

    from longpole.trace import Trace

SMALL = 24 << 20  # of recorded traces, decompressed: enough of them, soon read
BORDER = '"\n  },\n  {\n    "ph": "X"'


@pytest.fixture(autouse=True)
def cut_often(monkeypatch) -> None:
    monkeypatch.setattr(stretches, "LARGE_BYTES", 0)
    monkeypatch.setattr(stretches, "STRETCH_BYTES", 700)
    monkeypatch.setattr(stretches, "LOOK_BYTES", 400)
    monkeypatch.setattr(json_events, "PIECE_BYTES", 300)


def in_stretches(path: Path) -> Trace | None:
    """By this process alone: the same code, but for the way columns take from process to process."""
    return stretches.read_large(path, workers=1)


def training(count: int) -> list[dict[str, object]]:
    events: list[dict[str, object]] = [made.span("cpu_op", "first", 0, 1, Fwd_thread_id=0)]
    for i in range(count):
        events += [
            span("cpu_op", f"aten::op{i % 7}", 10 * i, 8, **{"External id": i + 1, "Input Dims": [[i % 5, 3], []]}),
            runtime("cudaLaunchKernel", 10 * i + 1, 2, correlation=i + 1),
            {"ph": "s", "id": i, "pid": 100, "tid": 1, "ts": 10 * i + 1, "cat": "ac2g", "name": "ac2g"},
            kernel(f"kernel {i % 11}", 10 * i + 5, 4, correlation=i + 1, stream=7 + i % 2),
            {"ph": "f", "id": i, "pid": 0, "tid": 7, "ts": 10 * i + 5, "cat": "ac2g", "name": "ac2g", "bp": "e"},
            {"ph": "i", "name": "[memory]", "pid": 100, "tid": 1, "ts": 10 * i, "s": "t", "args": {"Bytes": i}},
        ]
    return events


def test_stretches_are_the_whole(tmp_path) -> None:
    path = tmp_path / "t.json"
    path.write_text(made.kineto_text(training(60)))
    found, alone = in_stretches(path), open_trace(path, workers=1)
    assert found is not None
    assert same(found, alone)
    assert len(alone.events) == 1 + 3 * 60
    assert len(alone.memory.time_ns) == 60


def test_other_processes_read_the_same(tmp_path) -> None:
    path = tmp_path / "t.json"
    path.write_text(made.kineto_text(training(60)))
    found = stretches.read_large(path, workers=2)
    assert found is not None
    assert same(found, open_trace(path, workers=1))


def test_a_lost_process_costs_time_and_nothing_else(tmp_path, monkeypatch) -> None:
    path = tmp_path / "t.json"
    path.write_text(made.kineto_text(training(60)))
    monkeypatch.setattr(workers, "WORKER", "longpole.no_such_module")
    assert stretches.read_large(path, workers=2) is None
    assert len(open_trace(path, workers=2).events) == 1 + 3 * 60


@pytest.mark.parametrize("end", [1, 2, 3, 40, 900, 1500, 5000])
def test_a_cut_off_file_is_cut_off_the_same(tmp_path, end) -> None:
    path = tmp_path / "t.json"
    path.write_text(made.kineto_text(training(60))[:-end])
    found, alone = in_stretches(path), open_trace(path, workers=1)
    assert found is not None
    assert same(found, alone)
    assert any("cut off" in warning for warning in alone.info.warnings)


def test_a_second_list_is_not_mistaken_for_the_first(tmp_path) -> None:
    """The borders of a list that comes after the events look the same: the list's end is met before them."""
    path = tmp_path / "t.json"
    more = json.dumps([span("cpu_op", "not an event", i, 1) for i in range(60)], indent=2)
    tail = f'"others": {made.kineto_text(training(20)).split(": [", 1)[1].rsplit("]", 1)[0].join("[]")}, "x": {more}'
    path.write_text(made.kineto_text(training(20), tail=tail))
    assert in_stretches(path) is None
    assert same(open_trace(path, workers=2), open_trace(path, workers=1))


def test_begins_and_ends_are_read_at_once(tmp_path) -> None:
    path = tmp_path / "t.json"
    halves = [
        {"ph": half, "cat": "cpu_op", "name": "long", "pid": 1, "tid": 1, "ts": ts}
        for half, ts in (("B", 1), ("E", 900))
    ]
    path.write_text(made.kineto_text([halves[0], *training(40), halves[1]]))
    assert in_stretches(path) is None
    assert "long" in made.names(open_trace(path, workers=2))


def test_garbage_in_the_middle_is_left_out_the_same(tmp_path) -> None:
    path = tmp_path / "t.json"
    text = made.kineto_text(training(60))
    middle = text.index("{", len(text) // 2)
    for garbage in ('{"ph": "X", "ts": NaN},', '{"ph": "X", "name": nonsense},', "]", '"', "\\", "{", "\x00\xff"):
        path.write_bytes((text[:middle] + garbage + text[middle:]).encode("latin-1"))
        found, alone = in_stretches(path), open_trace(path, workers=1)
        assert found is None or same(found, alone), garbage


def test_no_trace_is_no_trace(tmp_path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"numbers": list(range(1000))}))
    with pytest.raises(LongpoleError, match="no traceEvents"):
        open_trace(path, workers=2)


NAME = st.text(max_size=30) | st.sampled_from(
    [BORDER, BORDER * 3, "}," * 9, "\\", '\\"', "]}", "é世\U0001f980", "\\u0041"]
)
IDENTITY = st.integers(-1, 3) | st.sampled_from(["stream 7", "7", "x"])
ARGS = st.dictionaries(st.sampled_from(["External id", "correlation", "Call stack", "note"]), NAME | st.integers(0, 9))
EVENT = st.fixed_dictionaries(
    {
        "ph": st.sampled_from("XXXXXsfiM"),
        "cat": st.sampled_from(["cpu_op", "kernel", "cuda_runtime", "fwdbwd", "ac2g", "odd"]),
        "name": NAME | st.just("[memory]"),
        "pid": IDENTITY,
        "tid": IDENTITY,
        "ts": st.integers(0, 50) | st.just(1712195495519689.047),
        "dur": st.integers(-2, 60),
        "id": st.integers(0, 4),
        "args": ARGS,
    }
)
LAYOUTS = {
    "kineto": made.kineto_text,
    "compact": lambda events: json.dumps(made.document(events), separators=(",", ":")),
    "list": lambda events: json.dumps(events, indent=1),
    "as it is": lambda events: json.dumps(made.document(events), ensure_ascii=False, indent=2),
}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(EVENT, min_size=12, max_size=40), layout=st.sampled_from(sorted(LAYOUTS)), cut=st.integers(0, 300)
)
def test_any_file_in_stretches_is_the_file_at_once(tmp_path, events, layout, cut) -> None:
    path = tmp_path / "t.json"
    text = LAYOUTS[layout](events).encode("utf-8", "replace")
    path.write_bytes(text[: len(text) - cut] if cut < 200 else text)
    found, alone = in_stretches(path), open_trace(path, workers=1)
    assert found is None or same(found, alone)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in trace_files()])
def test_recorded_traces_in_stretches(tmp_path, monkeypatch, path) -> None:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(text) > SMALL:
        pytest.skip("larger than this test has time for")
    monkeypatch.setattr(stretches, "STRETCH_BYTES", max(len(text) // 5, 1000))
    monkeypatch.setattr(stretches, "LOOK_BYTES", 1 << 20)
    monkeypatch.setattr(json_events, "PIECE_BYTES", 1 << 17)
    plain = tmp_path / path.name.removesuffix(".gz")
    plain.write_bytes(text)
    found, alone = in_stretches(plain), open_trace(plain, workers=1)
    if len(text) > 1 << 18 and b'"ph": "B"' not in text and b"\n" in text:
        assert found is not None
    assert found is None or same(found, alone)
