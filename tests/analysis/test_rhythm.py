"""Steps from marks, from optimizers, from backward passes, from kernels, or none: and which of these is said."""

from __future__ import annotations

import itertools
import json

import pytest

import shared_paths
from longpole.analysis.rhythm import device_windows, find_steps
from longpole.importers import open_trace
from made_traces import kernel, opened, runtime, span

BACKWARD = "autograd::engine::evaluate_function: MmBackward0"


def windows(found) -> list[tuple[int, float, float]]:
    return [(step.index, step.start_ns / 1e3, step.end_ns / 1e3) for step in found]


@pytest.mark.parametrize("category", ["user_annotation", "cpu_op", "Operator"])
def test_profiler_steps_of_every_age_and_the_last_is_kept(tmp_path, category) -> None:
    marks = [span(category, f"ProfilerStep#{n}", 100 * (n - 5), 98) for n in (5, 6, 7)]
    steps, reason = find_steps(opened(tmp_path, marks))
    assert windows(steps) == [(5, 0, 100), (6, 100, 200), (7, 200, 298)]
    assert "ProfilerStep" in reason


def test_the_last_step_ends_with_the_device_work_it_started(tmp_path) -> None:
    events = [span("user_annotation", "ProfilerStep#1", 0, 10), runtime("cudaLaunchKernel", 5, 1, correlation=3)]
    events.append(kernel("k", 8, 50, correlation=3))
    steps, _ = find_steps(opened(tmp_path, events))
    assert windows(steps) == [(1, 0, 58)]


def test_a_schedule_that_waits_leaves_its_waits_out(tmp_path) -> None:
    marks = [span("user_annotation", f"ProfilerStep#{n}", start, 10) for n, start in ((1, 0), (2, 10), (9, 500))]
    steps, _ = find_steps(opened(tmp_path, marks))
    assert windows(steps) == [(1, 0, 10), (2, 10, 20), (9, 500, 510)]


def test_hosts_run_ahead_of_devices(tmp_path) -> None:
    # The host launches three steps in 30 us, each of which keeps the device busy for 20.
    events = []
    for n in range(3):
        events.append(span("user_annotation", f"ProfilerStep#{n}", 10 * n, 10))
        events.append(runtime("cudaLaunchKernel", 10 * n + 1, 1, correlation=n + 1))
        events.append(kernel("k", 5 + 20 * n, 20, correlation=n + 1))
    trace = opened(tmp_path, events)
    steps, _ = find_steps(trace)
    assert windows(steps) == [(0, 0, 10), (1, 10, 20), (2, 20, 65)]
    assert windows(device_windows(trace, steps)) == [(0, 0, 25), (1, 25, 45), (2, 45, 65)]


def training(optimizers, fetch=True):
    """Each turn takes 100 us: data 10, forward to 40, then for each optimizer a backward of 10 and an update of 10."""
    events = []
    for turn in range(3):
        at = 100 * turn
        if fetch:
            events.append(span("cpu_op", "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", at, 10))
        events.append(span("cpu_op", "aten::mm", at + 20, 20, Sequence_number=turn, Fwd_thread_id=0))
        for index, name in enumerate(optimizers):
            events.append(span("cpu_op", BACKWARD, at + 40 + 20 * index, 10, tid=2))
            if name:
                events.append(span("user_annotation", f"Optimizer.step#{name}.step", at + 50 + 20 * index, 10))
    return events


def test_an_optimizer_update_ends_a_step(tmp_path) -> None:
    steps, reason = find_steps(opened(tmp_path, training(["SGD"])))
    assert windows(steps) == [(0, 0, 60), (1, 60, 160), (2, 160, 260)]
    assert "optimizer update" in reason


@pytest.mark.parametrize("names", [["Adam", "Adam"], ["Adam", "SGD"]])
def test_all_optimizers_of_a_turn_are_one_step(tmp_path, names) -> None:
    steps, _ = find_steps(opened(tmp_path, training(names)))
    assert windows(steps) == [(0, 0, 80), (1, 80, 180), (2, 180, 280)]


def test_without_marks_a_step_starts_with_its_forward_pass(tmp_path) -> None:
    steps, reason = find_steps(opened(tmp_path, training([""])))
    assert windows(steps) == [(0, 0, 120), (1, 120, 220), (2, 220, 250)]
    assert "forward pass" in reason


def test_recomputing_inside_backward_starts_no_step(tmp_path) -> None:
    events = training([""])
    events += [span("cpu_op", "aten::mm", 100 * turn + 43, 2, tid=2, Sequence_number=50) for turn in range(3)]
    events += [span("cpu_op", BACKWARD, 100 * turn + 52, 5, tid=2) for turn in range(3)]
    steps, _ = find_steps(opened(tmp_path, events))
    assert len(steps) == 3


def test_kernels_alone_show_their_rhythm(tmp_path) -> None:
    events = [
        kernel(name, 100 * turn + offset, 5)
        for turn in range(4)
        for offset, name in enumerate(["embed", "gemm", "gemm", "gemm", "loss", "adam"])
    ]
    steps, reason = find_steps(opened(tmp_path, events))
    assert [step.start_ns for step in steps] == [0, 100_000, 200_000, 300_000]
    assert "device work" in reason


def test_the_layers_of_one_forward_pass_are_no_steps(tmp_path) -> None:
    layers = [kernel(n, 100 * layer + o, 5) for layer in range(12) for o, n in enumerate(["qkv", "softmax", "mlp"])]
    around = [kernel(name, 1200 + 10 * i, 5) for i, name in enumerate(["embed", "position", "norm", "head", "argmax"])]
    steps, reason = find_steps(opened(tmp_path, layers + around))
    assert steps == []
    assert reason.startswith("No steps")


def test_no_rhythm_is_said(tmp_path) -> None:
    steps, reason = find_steps(opened(tmp_path, [span("cpu_op", "aten::mm", 0, 5)]))
    assert steps == []
    assert "prof.step()" in reason


EXPECTED = {  # ProfilerStep counts by the table of the recorded traces
    "HTA__df_index_resolver": 5,
    "HTA__negative_queue_length": 5,
    "HTA__ns_resolution": 5,
    "HTA__cpu_only": 5,
    "TraceLens__mi300-resnet": 3,
    "kineto__tb_plugin-samples-resnet50_num_workers_0": 6,
    "kineto__tb_plugin-samples-resnet50_num_workers_4": 6,
    "moddednanogpt__": 4,
    "torchbench__": 10,
    "HTA__with_gpu_user_annotation": 5,  # no ProfilerStep: five optimizer updates
    "HTA__critical_path-alexnet": 0,
    "zoology__": 0,
}
CASES = [
    (path, n) for path in shared_paths.trace_files() for start, n in EXPECTED.items() if path.name.startswith(start)
]


@pytest.mark.skipif(not CASES, reason="no recorded traces in ../shared/traces or LONGPOLE_TRACES")
@pytest.mark.parametrize(("path", "count"), CASES, ids=lambda value: getattr(value, "name", str(value))[:50])
def test_steps_of_recorded_traces(path, count) -> None:
    trace = open_trace(path)
    steps, _ = find_steps(trace)
    assert len(steps) == count
    assert all(one.end_ns <= other.start_ns for one, other in itertools.pairwise(steps))
    on_device = device_windows(trace, steps)
    assert all(one.end_ns <= other.start_ns for one, other in itertools.pairwise(on_device))


@pytest.mark.skipif(not CASES, reason="no recorded traces in ../shared/traces or LONGPOLE_TRACES")
def test_one_kind_of_step_on_all_ranks_takes_the_same_device_time() -> None:
    # Eight ranks of one run wait for one another: their third and fourth steps take the same time to 1 %.
    paths = [path for path in shared_paths.trace_files() if path.name.startswith("moddednanogpt__")]
    traces = [open_trace(path) for path in paths]
    found = [device_windows(trace, find_steps(trace)[0]) for trace in traces]
    for place in (2, 3):
        times = [steps[place].end_ns - steps[place].start_ns for steps in found]
        middle = sorted(times)[len(times) // 2]
        assert sum(abs(time / middle - 1) < 0.01 for time in times) >= 6, json.dumps(times)
