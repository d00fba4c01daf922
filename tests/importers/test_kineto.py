"""What a Kineto trace says ends in the right column, whatever the age of the format."""

from __future__ import annotations

from typing import Any

import pytest

import made_traces as made
from longpole.cost import attention, convolution, cost_of, matmul, optimizers, recurrent, streams
from longpole.importers.kineto_kinds import needs_values
from longpole.trace import Kind
from made_traces import kernel, opened, runtime, span


def test_microseconds_with_three_decimals_become_exact_nanoseconds(tmp_path) -> None:
    # As doubles these stamps are 0.25 us apart: 0.047 and 0.812 would both be lost.
    text = made.kineto_text([kernel("a", 0, 1), kernel("b", 0, 1)])
    text = text.replace('"ts": 0', '"ts": 1712195495519689.047', 1).replace('"ts": 0', '"ts": 1712195495519690.812', 1)
    text = text.replace('"dur": 1', '"dur": 53.090')
    (tmp_path / "t.json").write_text(text)
    trace = made.open_trace(tmp_path / "t.json")
    assert trace.events.start_ns.tolist() == [1712195495519689047, 1712195495519690812]
    assert trace.events.duration_ns.tolist() == [53090, 53090]


@pytest.mark.parametrize(
    ("written", "nanoseconds"),
    [
        ("6322354273271.390", 6322354273271390),
        ("0.001", 1),
        ("1712195495519689", 1712195495519689000),
        ("1.5e3", 1500000),
        ("-3.25", -3250),
        ("1712195495519689.5", 1712195495519689500),
    ],
)
def test_stamps_of_every_form(tmp_path, written, nanoseconds) -> None:
    text = made.kineto_text([kernel("a", 0, 1)]).replace('"ts": 0', f'"ts": {written}')
    (tmp_path / "t.json").write_text(text)
    assert made.open_trace(tmp_path / "t.json").events.start_ns.tolist() == [nanoseconds]


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        ("cpu_op", Kind.OP),
        ("Operator", Kind.OP),
        ("kernel", Kind.KERNEL),
        ("Kernel", Kind.KERNEL),
        ("gpu_memcpy", Kind.MEMCPY),
        ("Memcpy", Kind.MEMCPY),
        ("gpu_memset", Kind.MEMSET),
        ("Memset", Kind.MEMSET),
        ("cuda_runtime", Kind.RUNTIME),
        ("Runtime", Kind.RUNTIME),
        ("cuda_driver", Kind.RUNTIME),
        ("xpu_runtime", Kind.RUNTIME),
        ("mtia_runtime", Kind.RUNTIME),
        ("mtia_ccp_events", Kind.KERNEL),
        ("cuda_sync", Kind.SYNC),
        ("user_annotation", Kind.ANNOTATION),
        ("gpu_user_annotation", Kind.DEVICE_ANNOTATION),
        ("python_function", Kind.PYTHON),
        ("overhead", Kind.OTHER),
    ],
)
def test_categories_of_every_age(tmp_path, category, kind) -> None:
    trace = opened(tmp_path, [span(category, "x", 0, 1)])
    assert trace.events.kind.tolist() == [kind]
    assert not trace.info.warnings


def test_an_unknown_category_is_kept_apart_and_said(tmp_path) -> None:
    trace = opened(tmp_path, [span("warp_drive", "x", 0, 1)])
    assert trace.events.kind.tolist() == [Kind.OTHER]
    assert "'warp_drive'" in trace.info.warnings[0]


def test_a_cpu_op_with_a_stream_is_no_device_work(tmp_path) -> None:
    trace = opened(tmp_path, [span("cpu_op", "triton_poi_fused_0", 0, 5, stream=7, grid=[1, 1, 1])])
    assert trace.events.kind.tolist() == [Kind.OP]
    assert [lane.kind for lane in trace.lanes] == ["host"]


def test_kernels_know_their_launch_by_correlation(tmp_path) -> None:
    events = [runtime("cudaLaunchKernel", 0, 2, correlation=5), kernel("k", 10, 3, correlation=5)]
    trace = opened(tmp_path, events)
    assert made.names(trace) == ["cudaLaunchKernel", "k"]
    assert trace.events.launch.tolist() == [-1, 0]


def test_a_graph_launch_starts_many_kernels(tmp_path) -> None:
    events = [runtime("cudaGraphLaunch", 0, 2, correlation=5)]
    events += [kernel(f"k{i}", 10 + i, 1, correlation=5) for i in range(4)]
    assert opened(tmp_path, events).events.launch.tolist() == [-1, 0, 0, 0, 0]


def test_a_repeated_id_means_the_last_launch_before_the_kernel(tmp_path) -> None:
    events = [
        runtime("first", 0, 1, correlation=5),
        kernel("a", 2, 1, correlation=5),
        runtime("second", 10, 1, correlation=5),
        kernel("b", 12, 1, correlation=5),
    ]
    assert opened(tmp_path, events).events.launch.tolist() == [-1, 0, -1, 2]


def test_arrows_serve_where_there_is_no_correlation(tmp_path) -> None:
    launch, work = runtime("cudaLaunchKernel", 3, 2, correlation=0), kernel("k", 10, 3)
    for event in (launch, work):
        del event["args"]["correlation"]
    flow = {"cat": "async_cpu_to_gpu", "name": "async_cpu_to_gpu", "id": 9}
    arrow: list[dict[str, Any]] = [
        {"ph": "s", "pid": 100, "tid": 1, "ts": 3, **flow},
        {"ph": "f", "bp": "e", "pid": 0, "tid": "stream 7", "ts": 10, **flow},
    ]
    assert opened(tmp_path, [launch, work, *arrow]).events.launch.tolist() == [-1, 0]


def test_forward_and_backward_joined_by_an_arrow_share_a_number(tmp_path) -> None:
    flow = {"cat": "fwdbwd", "name": "fwdbwd", "id": 4}
    events = [
        span("cpu_op", "aten::mm", 1, 5),
        span("cpu_op", "MmBackward0", 20, 5, tid=2),
        span("cpu_op", "aten::add", 30, 5),
        {"ph": "s", "pid": 100, "tid": 1, "ts": 1, **flow},
        {"ph": "f", "bp": "e", "pid": 100, "tid": 2, "ts": 20, **flow},
    ]
    assert opened(tmp_path, events).events.sequence.tolist() == [0, 0, -1]


def test_recorded_sequence_numbers_are_kept(tmp_path) -> None:
    op = span("cpu_op", "MmBackward0", 0, 1, Sequence_number=77, Fwd_thread_id=1, External_id=12)
    events = opened(tmp_path, [op]).events
    assert (events.sequence.tolist(), events.forward_thread.tolist(), events.correlation.tolist()) == ([77], [1], [12])


def test_shapes_are_compact_json_whatever_the_layout(tmp_path) -> None:
    ops = [span("cpu_op", "aten::mm", i, 1, Input_Dims=[[2, 3], []], Input_type=["float", ""]) for i in range(2)]
    for indent in (None, 4):
        trace = opened(tmp_path, ops, indent=indent)
        assert [trace.text(int(code)) for code in trace.events.shapes] == ["[[2,3],[]]"] * 2
        assert trace.text(int(trace.events.dtypes[0])) == '["float",""]'


def test_call_stacks_of_old_traces_are_kept(tmp_path) -> None:
    trace = opened(tmp_path, [span("cpu_op", "aten::mm", 0, 1, Call_stack="a.py(3): f;b.py(4): g")])
    assert trace.text(int(trace.events.stack[0])) == "a.py(3): f;b.py(4): g"


def test_memory_events_have_their_own_table(tmp_path) -> None:
    def memory(ts, size, device_type, device) -> dict[str, Any]:
        args = {"Bytes": size, "Device Type": device_type, "Device Id": device, "Total Allocated": 100 + size}
        return {"ph": "i", "s": "t", "cat": "cpu_instant_event", "name": "[memory]", "ts": ts, "args": args}

    trace = opened(tmp_path, [span("cpu_op", "x", 0, 1), memory(2, 64, 1, 3), memory(1, -8, 0, -1)])
    assert trace.memory.time_ns.tolist() == [1000, 2000]
    assert trace.memory.bytes.tolist() == [-8, 64]
    assert trace.memory.device.tolist() == [-1, 3]
    assert trace.memory.total_allocated.tolist() == [92, 164]


def test_arguments_of_collectives(tmp_path) -> None:
    arguments = {
        "Collective name": "_allgather_base",
        "In msg nelems": 100,
        "Out msg nelems": 800,
        "dtype": "BFloat16",
        "Group size": 8,
        "Process Group Name": "3",
        "Process Group Description": "mesh_tp",
    }
    op = span("cpu_op", "record_param_comms", 5, 10)
    op["args"] = arguments
    trace = opened(tmp_path, [span("cpu_op", "before", 0, 1), op, span("user_annotation", "nccl:all_gather", 6, 2)])
    assert trace.events.kind.tolist() == [Kind.OP, Kind.COLLECTIVE, Kind.COLLECTIVE]
    found = trace.collectives
    assert (found.row.tolist(), found.ranks.tolist(), found.message_bytes.tolist()) == ([1], [8], [1600])
    assert trace.text(int(found.operation[0])) == "_allgather_base"
    assert trace.text(int(found.group[0])) == "mesh_tp"
    assert trace.events.bytes_moved.tolist() == [-1, 1600, -1]


def test_bytes_of_copies(tmp_path) -> None:
    copy = span("gpu_memcpy", "Memcpy HtoD", 0, 1, pid=0, tid=7, bytes=4096)
    assert opened(tmp_path, [copy]).events.bytes_moved.tolist() == [4096]


def test_ten_levels_nest(tmp_path) -> None:
    trace = opened(tmp_path, [span("cpu_op", f"level {i}", i, 100 - 2 * i) for i in range(10)])
    assert trace.events.parent.tolist() == [-1, 0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_waits_and_device_ranges_keep_off_the_streams(tmp_path) -> None:
    events = [
        kernel("k", 0, 5),
        span("cuda_sync", "Stream Sync", 0, 9, pid=0, tid=7),
        span("gpu_user_annotation", "step", 0, 9, pid=0, tid=7),
    ]
    trace = opened(tmp_path, events)
    kinds = {trace.name_of(row): trace.lanes[lane].kind for row, lane in enumerate(trace.events.lane)}
    assert kinds == {"k": "stream", "Stream Sync": "async", "step": "async"}


def test_text_and_number_of_a_thread_are_one_lane(tmp_path) -> None:
    events = [span("Operator", "a", 0, 1, tid="4093687616"), span("Runtime", "b", 2, 1, tid=4093687616)]
    assert len(opened(tmp_path, events).lanes) == 1


def test_begin_and_end_events_make_spans(tmp_path) -> None:
    def half(ph, name, ts) -> dict[str, Any]:
        return {"ph": ph, "cat": "cpu_op", "name": name, "pid": 1, "tid": 1, "ts": ts}

    events = [half("B", "outer", 0), half("B", "inner", 2), half("E", "", 5), half("E", "", 9)]
    trace = opened(tmp_path, events)
    assert made.names(trace) == ["outer", "inner"]
    assert trace.events.duration_ns.tolist() == [9000, 3000]


def test_events_of_the_python_exporter_have_a_process_for_category(tmp_path) -> None:
    events = [span("", "aten::mm", 0, 9, pid="CPU functions", tid=0), span("", "k", 1, 1, pid="CUDA functions", tid=0)]
    assert opened(tmp_path, events).events.kind.tolist() == [Kind.OP, Kind.KERNEL]


def test_where_the_trace_comes_from(tmp_path) -> None:
    trace = opened(
        tmp_path,
        [kernel("k", 0, 1)],
        deviceProperties=[{"id": 0, "name": "NVIDIA H100"}, {"id": 1, "name": "NVIDIA T4"}],
        distributedInfo={"backend": "nccl", "rank": 3, "world_size": 16},
        with_stack=1,
    )
    info = trace.info
    assert (info.source, info.rank, info.world_size, info.device) == ("kineto", 3, 16, "NVIDIA H100")
    assert info.facts["stacks recorded"] == "yes"


def test_a_missing_rank_is_taken_from_the_name_or_not_known(tmp_path) -> None:
    events = [kernel("k", 0, 1)]
    assert made.open_trace(made.write(tmp_path / "trace_8_rank_5.json", events)).info.rank == 5
    assert made.open_trace(made.write(tmp_path / "some.json", events)).info.rank is None


def test_fields_after_the_events_count_too(tmp_path) -> None:
    text = made.kineto_text([kernel("k", 0, 1)], tail='"distributedInfo": {"rank": 1}')
    (tmp_path / "t.json").write_text(text)
    assert made.open_trace(tmp_path / "t.json").info.rank == 1


FORMULAS = (attention, convolution, matmul, optimizers, recurrent, streams)


def test_values_are_kept_for_every_op_whose_cost_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str] = set()

    def value(call: Any, index: int) -> None:
        del index
        asked.add(call.name)

    monkeypatch.setattr("longpole.cost.model.Call.value", value)
    for name in (name for module in FORMULAS for name in module.FORMULAS):
        for shapes in ([[8, 4, 16, 16]] * 3 + [[]] * 9, [[8, 4, 16, 16], [4, 4, 3, 3]] + [[]] * 9, [[9], [], [4]]):
            cost_of(name, shapes)
    assert {"aten::cudnn_convolution", "aten::convolution_backward", "aten::index_select"} <= asked
    assert [name for name in sorted(asked) if not needs_values(name)] == []
    assert not needs_values("aten::mm")
