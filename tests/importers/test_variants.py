"""Traces of other programs are refused in one line; odd ones of torch.profiler give the figures of the plain one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from longpole.analysis.device import device_study
from longpole.analysis.make import study
from longpole.errors import LongpoleError
from longpole.importers import open_trace
from longpole.trace import Kind
from made_traces import document, kernel, runtime, span

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Events = list[dict[str, Any]]


def step(number: int) -> Events:
    """1 ms: a product of 300 us in forward, one of 200 us in backward, an update of 100 us; the rest is idle."""
    at = 1000.0 * number
    first = 10 * number
    return [
        span("user_annotation", f"ProfilerStep#{number}", at, 1000),
        span("cpu_op", "aten::mm", at + 10, 50),
        runtime("cudaLaunchKernel", at + 20, 5, first + 1),
        kernel("sgemm", at + 100, 300, correlation=first + 1),
        span("cpu_op", "autograd::engine::evaluate_function: MmBackward0", at + 200, 100),
        span("cpu_op", "aten::mm", at + 210, 50),
        runtime("cudaLaunchKernel", at + 220, 5, first + 2),
        kernel("sgemm", at + 420, 200, correlation=first + 2),
        span("user_annotation", "Optimizer.step#SGD.step", at + 500, 100),
        span("cpu_op", "aten::_foreach_add_", at + 510, 50),
        runtime("cudaLaunchKernel", at + 520, 5, first + 3),
        kernel("multi_tensor_apply_kernel", at + 750, 100, correlation=first + 3),
    ]


STEPS = [event for number in range(1, 5) for event in step(number)]


def busy_ms(path: Path) -> float:
    timeline = device_study([open_trace(path)]).ranks[0].timeline
    assert timeline is not None
    return timeline.busy.ms


def halves(events: Events) -> Events:
    """Begins and ends in place of complete events, in order of time, ends first."""
    begun = [{**{key: value for key, value in event.items() if key != "dur"}, "ph": "B"} for event in events]
    ended = [{**event, "ph": "E", "ts": event["ts"] + event["dur"], "args": {}} for event in events]
    return sorted([*begun, *ended], key=lambda event: (event["ts"], event["ph"] == "B"))


OTHERS: Events = [
    {"ph": "b", "id": "0x1", "cat": "async", "name": "request", "pid": 1, "tid": 1, "ts": 5},
    {"ph": "n", "id": "0x1", "cat": "async", "name": "request", "pid": 1, "tid": 1, "ts": 6},
    {"ph": "e", "id": "0x1", "cat": "async", "name": "request", "pid": 1, "tid": 1, "ts": 50},
    {"ph": "C", "name": "GPU 0 utilization", "pid": 0, "ts": 1, "args": {"value": 0.5}},
    {"ph": "O", "id": 3, "name": "snapshot", "ts": 1},
    {"ph": "R", "name": "navigationStart", "ts": 2},
]
VARIANTS: dict[str, Callable[[], str]] = {
    "as it is": lambda: json.dumps(document(STEPS)),
    "before the epoch": lambda: json.dumps(document([{**e, "ts": e["ts"] - 1e6} for e in STEPS])),
    "since 1970": lambda: json.dumps(document([{**e, "ts": e["ts"] + 1712195495519689} for e in STEPS])),
    "numbers as text": lambda: json.dumps(document([{**e, "ts": str(e["ts"]), "dur": str(e["dur"])} for e in STEPS])),
    "begins and ends": lambda: json.dumps(document(halves(STEPS))),
    "asynchronous events and counters": lambda: json.dumps(document([*OTHERS, *STEPS])),
    "words for numbers": lambda: json.dumps(document(STEPS)).replace(
        '"stream": 7', '"stream": 7, "x": NaN, "y": -Infinity'
    ),
    "half a character": lambda: json.dumps(document(STEPS)).replace("sgemm", "sgemm\\ud800"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_odd_ways_to_write_a_trace_change_no_figure(tmp_path: Path, variant: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(VARIANTS[variant]())
    found = device_study([open_trace(path)])
    assert found.run.steps.seen == 4
    assert busy_ms(path) == pytest.approx(4 * 0.6)
    assert {p.phase: p.ms for p in found.phases if p.phase in ("forward", "backward", "optimizer")} == pytest.approx(
        {"forward": 0.3, "backward": 0.2, "optimizer": 0.1}
    )


@pytest.mark.parametrize("bad", ["NaN", "Infinity", '"soon"', "1e400", "null", "[1]"])
def test_a_duration_that_is_none_costs_its_event_and_is_said(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(document(STEPS)).replace('"dur": 300', f'"dur": {bad}', 1))
    found = device_study([open_trace(path)])
    assert busy_ms(path) == pytest.approx(4 * 0.6 - 0.3)
    assert "1 events could not be decoded and were left out." in found.run.warnings


def test_one_step_alone_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(document(step(1))))
    found = device_study([open_trace(path)])
    assert (found.run.steps.seen, found.run.steps.measured) == (1, 1)
    assert found.step.wall_ms is not None
    assert found.step.wall_ms.median == pytest.approx(1.0)


def test_the_profiler_without_kineto_gives_ops_of_the_host(tmp_path: Path) -> None:
    """torch.autograd.profiler with use_kineto=False: a list, no categories, a process called CPU functions."""
    spans = (
        ("aten::mm", 10.5, 40),
        ("MmBackward", 100, 50),
        ("aten::mm", 110, 30),
        ("Optimizer.step#SGD.step", 200, 50),
    )
    events = [
        {"name": name, "ph": "X", "ts": at, "dur": long, "tid": 1, "pid": "CPU functions", "args": {}}
        for name, at, long in spans
    ]
    path = tmp_path / "t.json"
    path.write_text(json.dumps(events))
    trace = open_trace(path)
    assert set(trace.events.kind.tolist()) == {int(Kind.OP)}
    found = study([trace])
    assert found.ranks[0].timeline is None
    assert {p.phase: p.ms for p in found.phases}["backward"] == pytest.approx(0.05)


FOREIGN: dict[str, Any] = {
    "JAX": {
        "displayTimeUnit": "ns",
        "metadata": {"highres-ticks": True},
        "traceEvents": [
            {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "/device:GPU:0"}},
            {
                "ph": "X",
                "pid": 1,
                "tid": 2,
                "ts": 1.5,
                "dur": 3.2,
                "name": "fusion.12",
                "args": {"hlo_op": "fusion.12"},
            },
        ],
    },
    "TensorFlow": {"traceEvents": [{"ph": "X", "cat": "Op", "name": "MatMul", "pid": 1, "tid": 0, "ts": 1, "dur": 5}]},
    "a browser": [{"ph": "X", "cat": "toplevel", "name": "ThreadPool_RunTask", "pid": 1, "tid": 0, "ts": 1, "dur": 5}],
    "VizTracer": {
        "traceEvents": [{"ph": "X", "name": "f (a.py:3)", "pid": 1, "tid": 1, "ts": 1, "dur": 5, "cat": "FEE"}],
        "viztracer_metadata": {},
    },
}


@pytest.mark.parametrize("program", FOREIGN)
def test_chrome_traces_of_other_programs_are_refused_in_one_line(tmp_path: Path, program: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(FOREIGN[program]))
    with pytest.raises(LongpoleError, match="is a Chrome trace, but not of torch") as error:
        open_trace(path)
    assert "\n" not in str(error.value)


def test_unknown_categories_beside_known_ones_are_left_out_and_said(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(document([*STEPS, span("vendor_thing", "x", 100, 5)])))
    found = device_study([open_trace(path)])
    assert busy_ms(path) == pytest.approx(4 * 0.6)
    assert any("unknown category 'vendor_thing'" in warning for warning in found.run.warnings)


def test_a_trace_of_nothing_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(document([])))
    with pytest.raises(LongpoleError, match="holds no event with a duration"):
        study([open_trace(path)])
