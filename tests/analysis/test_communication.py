"""Collectives by group and operation: counts, bytes, bandwidth, exposed time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.analysis.communication import collective_kernels, communication_times, exposed_ns, operation_of
from longpole.analysis.intervals import subtract, total, union
from longpole.analysis.timeline import timeline
from longpole.importers import open_trace
from longpole.trace import Kind, Lane, RunInfo, Trace, make_table
from made_traces import kernel, opened, runtime, span
from shared_paths import trace_files, traces_folder

if TYPE_CHECKING:
    from pathlib import Path

NCCL = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"


def arguments(name: str, elements: int, ranks: int, group: str = "dp") -> dict[str, Any]:
    return {
        "Collective_name": name,
        "In_msg_nelems": elements,
        "Out_msg_nelems": elements,
        "dtype": "Float",
        "Group_size": ranks,
        "Process_Group_Name": group,
    }


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        (NCCL, "all_reduce"),
        ("ncclKernel_AllReduce_TREE_LL_Sum_half(ncclWorkElem)", "all_reduce"),
        ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "reduce_scatter"),
        ("ncclDevKernel_Reduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "reduce"),
        ("_allgather_base", "all_gather"),
        ("allreduce_coalesced", "all_reduce"),
        ("nccl:all_to_all", "all_to_all"),
        ("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>(RankData*, RankSignals)", "all_reduce"),
        ("void deep_ep::intranode::dispatch<8, 768, 8192>(int4*, float*)", "dispatch"),
        ("ncclDevKernel_Generic(ncclDevComm*, channelMasks, ncclWork*)", None),
        ("void f<allReduce>(int)", None),
    ],
)
def test_the_operation_is_read_from_the_name_and_not_from_its_arguments(name: str, operation: str | None) -> None:
    assert operation_of(name) == operation


def test_bytes_and_bandwidth_by_nccl_tests_definition(tmp_path: Path) -> None:
    # 4 ranks, 1,000,000 floats: 4 MB in 1 ms are 4 GB/s; the bus carries 2 (n-1) / n = 1.5 times as much.
    trace = opened(tmp_path, [kernel(NCCL, 100, 1000, **arguments("allreduce", 1_000_000, 4))])
    (one,) = communication_times(trace)
    assert (one.group, one.operation, one.ranks, one.count, one.bytes) == ("dp", "all_reduce", 4, 1, 4_000_000)
    assert one.algorithm_bytes_per_s == pytest.approx(4e9)
    assert one.bus_bytes_per_s == pytest.approx(6e9)
    assert one.device_ms == pytest.approx(1.0)


def test_arguments_are_found_on_the_host_call_round_the_launch(tmp_path: Path) -> None:
    trace = opened(
        tmp_path,
        [
            span("cpu_op", "record_param_comms", 10, 50, **arguments("_allgather_base", 250, 2)),
            runtime("cudaLaunchKernel", 20, 5, 7),
            kernel("ncclDevKernel_AllGather_RING_LL(x)", 40, 10, correlation=7),
        ],
    )
    (one,) = communication_times(trace)
    assert (one.operation, one.group, one.ranks, one.bytes) == ("all_gather", "dp", 2, 1000)
    assert one.bus_bytes_per_s == pytest.approx(1000 / 10e-6 / 2)


def test_what_is_not_known_stays_none(tmp_path: Path) -> None:
    (one,) = communication_times(opened(tmp_path, [kernel(NCCL, 0, 10)]))
    assert one.operation == "all_reduce"
    assert [one.group, one.ranks, one.bytes, one.algorithm_bytes_per_s, one.bus_bytes_per_s] == [None] * 5


def test_a_kernel_without_arguments_is_of_the_group_of_its_stream_only_where_that_has_one(tmp_path: Path) -> None:
    known = kernel(NCCL, 100, 10, **arguments("allreduce", 8, 2, "dp"))
    lone = opened(tmp_path, [kernel(NCCL, 0, 10), known])
    assert [(row.group, row.count, row.counted) for row in communication_times(lone)] == [("dp", 2, 1)]
    other = kernel(NCCL, 200, 10, **arguments("allreduce", 8, 2, "tp"))
    mixed = opened(tmp_path, [kernel(NCCL, 0, 10), known, other])
    assert sorted((str(row.group), row.count) for row in communication_times(mixed)) == [
        ("None", 1),
        ("dp", 1),
        ("tp", 1),
    ]


def test_exposed_time_of_overlapping_collectives_is_counted_once(tmp_path: Path) -> None:
    # A 0-100, B 60-160 on another stream, compute 40-80: A is exposed 0-40 and 80-100, B 100-160.
    trace = opened(
        tmp_path,
        [
            kernel(NCCL, 0, 100, stream=20, **arguments("allreduce", 8, 2)),
            kernel("ncclDevKernel_AllGather_RING_LL(x)", 60, 100, stream=21, **arguments("allgather", 8, 2)),
            kernel("gemm", 40, 40, stream=7),
        ],
    )
    found = {row.operation: row.exposed_ms for row in communication_times(trace)}
    assert found == {"all_reduce": pytest.approx(0.060), "all_gather": pytest.approx(0.060)}


def test_a_frameworks_own_kernel_is_listed_apart_from_the_librarys(tmp_path: Path) -> None:
    trace = opened(
        tmp_path, [kernel("void vllm::cross_device_reduce_1stage<half, 8>(R*)", 0, 10), kernel(NCCL, 20, 10)]
    )
    assert {row.library: row.count for row in communication_times(trace)} == {True: 1, False: 1}


def device_trace(times: list[tuple[int, int, bool]]) -> Trace:
    """Kernels of (start, duration, communicates), each on a stream of its own."""
    columns = {
        "start_ns": [start for start, _, _ in times],
        "duration_ns": [duration for _, duration, _ in times],
        "name": [int(talks) for _, _, talks in times],
        "kind": [int(Kind.KERNEL)] * len(times),
        "lane": list(range(len(times))),
    }
    lanes = [Lane(f"stream {index}", "stream", 0, index, 0) for index in range(len(times))]
    return Trace(make_table(columns), ["gemm", "ncclDevKernel_AllReduce_Sum"], lanes, RunInfo())


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60), st.booleans()), min_size=1, max_size=30))
def test_exposed_times_add_up_to_the_timelines(times: list[tuple[int, int, bool]]) -> None:
    trace = device_trace(times)
    calls = collective_kernels(trace)
    talks = [(s, s + d) for s, d, talking in times if talking]
    works = [(s, s + d) for s, d, talking in times if not talking]
    both = [union(*(np.array([pair[i] for pair in pairs], dtype=np.int64) for i in (0, 1))) for pairs in (talks, works)]
    assert int(exposed_ns(trace, calls).sum()) == total(subtract(both[0], both[1]))


@pytest.mark.parametrize("path", trace_files(), ids=lambda path: path.name[:60])
def test_rows_of_recorded_traces_add_up_to_the_exposed_share_of_the_truth(path: Path) -> None:
    truth = json.loads((traces_folder() / "EXACT.json").read_text())
    trace = open_trace(path)
    rows = [row for row in communication_times(trace) if row.library]
    lines = timeline(trace)
    if lines is None or path.name not in truth:
        assert rows == []
        return
    exposed = sum(row.exposed_ms for row in rows)
    assert exposed == pytest.approx(lines.exposed_communication.ms, abs=1e-6)
    assert 100 * exposed / (lines.span_ms or 1) == pytest.approx(truth[path.name]["exposed_comm_pct"], abs=0.1)
