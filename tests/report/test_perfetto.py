"""The timeline file: valid, exact, with lanes named, and read back by our own importer as it was."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from longpole.errors import LongpoleError
from longpole.importers import open_trace
from longpole.report.perfetto import write_perfetto
from longpole.report.perfetto_arguments import joined
from longpole.trace import Kind, Trace
from report.sample_trace import HOSTILE_NAME, made_trace
from shared_paths import traces_folder

if TYPE_CHECKING:
    from pathlib import Path


def written(traces, path: Path, *more: object) -> dict:
    write_perfetto(traces, path, *more)
    raw = path.read_bytes()
    return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)


@pytest.fixture
def document(tmp_path):
    return written([made_trace()], tmp_path / "a.json")


def of(document: dict, **wanted: object) -> list[dict]:
    return [e for e in document["traceEvents"] if all(e.get(key) == value for key, value in wanted.items())]


def test_fields_round_the_events(document):
    assert document["schemaVersion"] == 1
    assert document["traceName"] == "a.json"
    assert document["distributedInfo"] == {"rank": 3, "world_size": 8}
    assert document["deviceProperties"] == [{"id": 0, "name": "NVIDIA H100 80GB HBM3"}]


def test_times_are_exact_nanoseconds(tmp_path):
    write_perfetto([made_trace()], tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    assert '"ts":1700000000000000.300,"dur":2.001' in text  # aten::addmm, 300 ns in, 2001 ns long


def test_time_before_zero(tmp_path):
    write_perfetto([made_trace(base_ns=-5_100)], tmp_path / "a.json")
    assert '"ts":-5.100' in (tmp_path / "a.json").read_text()
    assert of(json.loads((tmp_path / "a.json").read_text()), name="aten::addmm")[0]["ts"] == pytest.approx(-4.8)


def test_every_lane_has_a_name_and_a_place(document):
    named = {(e["pid"], e["tid"]) for e in of(document, ph="M", name="thread_name")}
    ordered = {(e["pid"], e["tid"]) for e in of(document, ph="M", name="thread_sort_index")}
    used = {(e["pid"], e["tid"]) for e in of(document, ph="X")}
    assert used <= named
    assert used <= ordered
    processes = {e["pid"] for e in of(document, ph="M", name="process_name")}
    assert {pid for pid, _ in used} <= processes
    names = {e["args"]["name"] for e in of(document, ph="M", name="process_name")}
    assert names == {"longpole (rank 3)", "host (rank 3)", "device 0 (rank 3)"}


def test_arguments(document):
    op = of(document, name="aten::addmm")[0]
    assert op["cat"] == "cpu_op"
    assert op["args"] == {
        "External id": 12,
        "Sequence number": 5,
        "Input Dims": [[2], [8, 4], [4, 2]],
        "phase": "forward",
        "layer": "blocks.0.fc1",
    }
    assert of(document, name="Memcpy HtoD")[0]["args"]["bytes"] == 4096
    assert of(document, name="gemm<float>")[0]["args"] == {"correlation": 77, "device": 0, "stream": 7}


def test_attribution_adds_roles(tmp_path):
    trace = made_trace()
    count = len(trace.events)

    @dataclass
    class Concluded:
        phase: np.ndarray
        layer: np.ndarray
        role: np.ndarray

    found = Concluded(np.full(count, 5), np.zeros(count, int), np.full(count, 3))
    document = written([trace], tmp_path / "a.json", [found])
    args = of(document, name="AddmmBackward0")[0]["args"]
    assert (args["phase"], args["layer"], args["role"]) == ("backward", "blocks.0.fc1", "weight_grad")
    nothing = Concluded(*(np.full(count, -1) for _ in range(3)))
    document = written([trace], tmp_path / "b.json", [nothing])
    assert of(document, name="AddmmBackward0")[0]["args"] == {"External id": 13, "Sequence number": 5}


def test_arrows_go_from_launch_to_kernel(document):
    starts, ends = of(document, ph="s"), of(document, ph="f")
    assert len(starts) == len(ends) == 2
    launches = {e["ts"] for e in of(document, name="cudaLaunchKernel")}
    kernels = {e["ts"] for e in of(document, name="gemm<float>")}
    assert {e["ts"] for e in starts} == launches
    assert {e["ts"] for e in ends} == kernels
    assert {e["id"] for e in starts} == {e["id"] for e in ends}
    assert len({e["id"] for e in starts}) == 2


def test_memory_is_a_counter(document):
    assert [e["args"]["bytes"] for e in of(document, ph="C")] == [512, 768, 256]  # 768 - 512, where no total is known


def test_steps_phases_and_layers_have_lanes(document):
    marks = Counter((e["tid"], e["name"]) for e in of(document, cat="Trace"))
    assert marks == {
        (1, "step 7"): 1,
        (1, "step 8"): 1,
        (2, "forward"): 2,
        (2, "backward"): 2,
        (3, "blocks.0.fc1"): 2,
    }
    assert len(of(document, name="ProfilerStep#7", cat="user_annotation")) == 1


def test_hostile_names_stay_names(document):
    assert len(of(document, name=HOSTILE_NAME.replace("\ud800", "?"))) == 2


def test_two_ranks_share_no_process_and_no_arrow(tmp_path):
    document = written([made_trace(0), made_trace(1)], tmp_path / "a.json.gz")
    spans = Counter(e["pid"] for e in of(document, ph="X"))
    assert len(spans) == 6  # marks, host and device of each rank
    assert len({e["id"] for e in of(document, ph="s")}) == 4


def test_unjoined_pairs_get_a_correlation():
    trace = made_trace()
    trace.events.correlation[:] = -1
    found = joined(trace.events)
    kernels = trace.events.rows_of(Kind.KERNEL)
    assert (found[kernels] == found[trace.events.launch[kernels]]).all()
    assert len(set(found[kernels].tolist())) == 2


def test_no_trace_and_no_place(tmp_path):
    assert written([], tmp_path / "a.json")["traceEvents"] == []
    with pytest.raises(LongpoleError, match="cannot write"):
        write_perfetto([made_trace()], tmp_path / "missing" / "a.json")


def work(trace: Trace) -> Counter:
    """What must survive: each op, launch, kernel, copy and range with its exact length, id and shapes."""
    events, found = trace.events, Counter()
    for row in events.rows_of(
        Kind.OP, Kind.RUNTIME, Kind.KERNEL, Kind.MEMCPY, Kind.MEMSET, Kind.COLLECTIVE, Kind.ANNOTATION
    ):
        name = trace.name_of(row)
        if not name.startswith("ProfilerStep#"):
            start = int(events.start_ns[row] - events.start_ns[0])
            key = (int(events.kind[row]), name, start, int(events.duration_ns[row]), int(events.sequence[row]))
            found[(*key, trace.text(int(events.shapes[row])).replace(" ", ""))] += 1
    return found


def launches(trace: Trace) -> Counter:
    events = trace.events
    rows = [row for row in events.rows_of(Kind.KERNEL, Kind.MEMCPY, Kind.MEMSET).tolist() if events.launch[row] >= 0]
    return Counter((trace.name_of(row), trace.name_of(int(events.launch[row]))) for row in rows)


@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_our_importer_reads_it_back(tmp_path, ending):
    first = made_trace()
    write_perfetto([first], tmp_path / f"a{ending}")
    second = open_trace(tmp_path / f"a{ending}")
    expected = Counter(
        {
            (key[0], key[1].replace("\ud800", "?"), *key[2:-1], '"notJSON"' if key[-1] == "notJSON" else key[-1]): n
            for key, n in work(first).items()
        }
    )
    assert work(second) == expected
    assert launches(second) == launches(first)
    steps = {second.name_of(r) for r in range(len(second.events)) if second.name_of(r).startswith("ProfilerStep#")}
    assert steps == {"ProfilerStep#7", "ProfilerStep#8"}
    assert second.info.rank == 3
    assert second.info.device == "NVIDIA H100 80GB HBM3"
    assert second.memory.bytes.tolist() == [512, 256, -512]


@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_a_live_run_is_read_back_whole(tmp_path, ending):
    made = made_trace()
    shapes = np.full(len(made.events), -1, np.int32)  # a live run's are JSON, and some of these are not
    live = msgspec.structs.replace(made.info, source="live")
    first = replace(made, events=replace(made.events, shapes=shapes), info=live)
    write_perfetto([first], tmp_path / f"a{ending}")
    second = open_trace(tmp_path / f"a{ending}")
    assert [(s.index, s.level) for s in second.steps] == [(s.index, s.level) for s in first.steps]
    assert second.layers == tuple(first.layers)
    assert Counter(map(second.name_of, range(len(second.events)))) == Counter(
        first.name_of(row).replace("\ud800", "?") for row in range(len(first.events))
    )
    assert second.events.duration_ns.tolist() == first.events.duration_ns.tolist()
    assert [found for found in second.calls.layer.tolist() if found >= 0] == first.calls.layer.tolist()


REAL = (
    "TraceLens__h100-gaunernst_bert-small-uncased__1016001.json.gz",
    "HTA__critical_path-alexnet-benchmark_result_2869224_1695835535_trace.json.gz",
    "kineto__tb_plugin-samples-resnet50_num_workers_0-worker0.old-2d19c63.pt.trace.json.gz",
)


@pytest.mark.parametrize("name", REAL)
def test_real_traces_survive(tmp_path, name):
    path = traces_folder() / name
    if not path.exists():
        pytest.skip("the recorded traces are not on this machine")
    first = open_trace(path)
    write_perfetto([first], tmp_path / "a.json.gz")
    second = open_trace(tmp_path / "a.json.gz")
    assert launches(second) == launches(first)
    assert work(second) == work(first)
