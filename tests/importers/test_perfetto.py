"""PyTorch's Perfetto export opens as its JSON does; the protobuf here is written by hand from the public schema."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import made_traces as made
from longpole.analysis.timeline import timeline
from longpole.errors import LongpoleError
from longpole.importers import open_trace
from longpole.importers.perfetto_slices import Slice, joined
from longpole.importers.protobuf import TruncatedError, fields, signed
from longpole.trace import Kind
from made_traces import opened, span

BEGIN, END = 1, 2


def number(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(key: int, value: Any) -> bytes:
    if isinstance(value, (bool, int)):
        return number(key << 3) + number(int(value))
    if isinstance(value, float):
        return number(key << 3 | 1) + struct.pack("<d", value)
    data = value.encode() if isinstance(value, str) else value
    return number(key << 3 | 2) + number(len(data)) + data


def annotation(key: str, value: Any) -> bytes:
    name = field(10, key)
    if isinstance(value, bool):
        return name + field(2, value)
    if isinstance(value, int):
        return name + field(4, value)
    if isinstance(value, float):
        return name + field(5, value)
    if isinstance(value, list):
        return name + b"".join(field(12, annotation("", item)) for item in value)
    return name + field(6, value)


def packet(*parts: bytes, sequence: int = 1) -> bytes:
    return field(1, b"".join(parts) + field(10, sequence))


def thread(uuid: int, pid: int, tid: int, name: str, parent: int = 0) -> bytes:
    described = field(1, pid) + field(2, tid) + field(5, name)
    return packet(field(60, field(1, uuid) + field(5, parent) + field(4, described)))


def begin(ns: int, track: int, name: str, category: str = "", **args: Any) -> bytes:
    parts = [field(9, BEGIN), field(11, track), field(23, name)]
    parts += [field(22, category)] if category else []
    parts += [field(4, annotation(key.replace("_", " "), value)) for key, value in args.items()]
    return packet(field(8, ns), field(11, b"".join(parts)))


def end(ns: int, track: int) -> bytes:
    return packet(field(8, ns), field(11, field(9, END) + field(11, track)))


HOST, STREAM = thread(1, 50, 51, "python"), thread(2, 0, 7, "stream 7 ")


def read(tmp_path, *packets: bytes):
    path = tmp_path / "trace.pftrace"
    path.write_bytes(b"".join(packets))
    return open_trace(path)


def test_slices_with_categories_open_as_their_json_does(tmp_path) -> None:
    protobuf = read(
        tmp_path,
        HOST,
        STREAM,
        begin(1_000, 1, "aten::mm", "cpu_op", External_id=4, Sequence_number=9, Input_Dims=[[2, 3], []]),
        begin(2_000, 1, "cudaLaunchKernel", "cuda_runtime", correlation=8, External_id=4),
        end(3_000, 1),
        begin(3_500, 2, "gemm", "kernel", correlation=8, stream=7, device=0),
        end(4_000, 1),
        end(9_001, 2),
    )
    json = opened(
        tmp_path,
        [
            span("cpu_op", "aten::mm", 1, 3, 50, 51, External_id=4, Sequence_number=9, Input_Dims=[[2, 3], []]),
            span("cuda_runtime", "cudaLaunchKernel", 2, 1, 50, 51, correlation=8, External_id=4),
            span("kernel", "gemm", 3.5, 5.501, 0, 7, correlation=8, stream=7, device=0),
        ],
    )
    assert made.names(protobuf) == made.names(json)
    for (name, ours), (_, theirs) in zip(protobuf.events.columns(), json.events.columns(), strict=True):
        assert ours.tolist() == theirs.tolist(), name
    assert protobuf.info.source == "perfetto"
    assert timeline(protobuf) == timeline(json)


def test_pytorchs_way_all_begins_of_a_group_then_all_ends(tmp_path) -> None:
    # Kernels that touch and overlap on one stream: by a stack their ends would be given to the wrong one.
    interned = field(13, 1) + field(12, b"".join(field(2, field(1, i) + field(2, f"k{i}")) for i in (1, 2, 3)))
    times = [(0, 10), (10, 30), (20, 40)]

    def kernel(i: int, start: int) -> bytes:
        args = b"".join(field(4, annotation(k, v)) for k, v in {"grid": [1, 1, 1], "correlation": i}.items())
        event = field(9, BEGIN) + field(11, 2) + field(10, i) + args
        return packet(field(8, start), field(13, 2), field(11, event))

    trace = read(
        tmp_path,
        STREAM,
        packet(interned),
        *(kernel(i + 1, start) for i, (start, _) in enumerate(times)),
        *(end(stop, 2) for _, stop in times),
    )
    assert made.names(trace) == ["k1", "k2", "k3"]
    assert list(zip(trace.events.start_ns.tolist(), trace.events.end_ns.tolist(), strict=True)) == times
    assert trace.events.kind.tolist() == [Kind.KERNEL] * 3
    assert (trace.lanes[0].kind, trace.lanes[0].thread) == ("stream", 7)


@pytest.mark.parametrize(
    ("track", "name", "args", "kind"),
    [
        (2, "gemm", {"grid": [1, 1, 1]}, Kind.KERNEL),
        (2, "Memcpy HtoD", {"correlation": 1, "bytes": 5}, Kind.MEMCPY),
        (2, "Memset (Device)", {"correlation": 1, "bytes": 5}, Kind.MEMSET),
        (2, "Stream Sync", {"correlation": 1}, Kind.SYNC),
        (2, "ProfilerStep#3", {}, Kind.DEVICE_ANNOTATION),
        (1, "cudaLaunchKernel", {"cbid": 211, "correlation": 1}, Kind.RUNTIME),
        (1, "hipLaunchKernel", {"correlation": 1}, Kind.RUNTIME),
        (1, "aten::mm", {"External_id": 1}, Kind.OP),
        (1, "train.py(12): main", {"Python_id": 1}, Kind.PYTHON),
        (1, "ProfilerStep#3", {"External_id": 1}, Kind.ANNOTATION),
    ],
)
def test_kinds_where_the_writer_gives_no_category(tmp_path, track, name, args, kind) -> None:
    trace = read(tmp_path, HOST, STREAM, begin(5, track, name, **args), end(9, track))
    assert trace.events.kind.tolist() == [kind]


def test_kernels_written_as_gpu_render_stages(tmp_path) -> None:
    extra = field(6, field(1, "correlation") + field(2, "12"))
    event = field(2, 500) + field(17, "gemm") + field(11, 3) + field(13, 7) + extra
    trace = read(tmp_path, packet(field(8, 100), field(53, event)))
    assert (made.names(trace), trace.events.kind.tolist()) == (["gemm"], [Kind.KERNEL])
    assert (trace.events.duration_ns.tolist(), trace.events.correlation.tolist()) == ([500], [12])
    assert (trace.lanes[0].device, trace.lanes[0].thread) == (3, 7)


def test_compressed_packets(tmp_path) -> None:
    inner = HOST + begin(5, 1, "aten::mm", "cpu_op") + end(9, 1)
    trace = read(tmp_path, field(1, field(50, zlib.compress(inner))))
    assert (made.names(trace), trace.events.duration_ns.tolist()) == (["aten::mm"], [4])


def test_a_clock_that_counts_on_from_packet_to_packet(tmp_path) -> None:
    # Clock 64 of this sequence counts microseconds on from 1000 ns of the system's clock 6.
    system = field(1, field(1, 6) + field(2, 1000))
    own = field(1, field(1, 64) + field(2, 0) + field(3, True) + field(4, 1000))
    start = field(11, field(9, BEGIN) + field(11, 1) + field(23, "x") + field(22, "cpu_op"))
    stop = field(11, field(9, END) + field(11, 1))
    trace = read(
        tmp_path,
        HOST,
        packet(field(6, system + own)),
        packet(field(59, field(58, 64))),
        packet(field(8, 2), start),
        packet(field(8, 3), stop),
    )
    assert (trace.events.start_ns.tolist(), trace.events.duration_ns.tolist()) == ([3000], [3000])


def test_a_cut_file_is_used_up_to_the_cut_which_is_said(tmp_path) -> None:
    whole = HOST + b"".join(begin(10 * i, 1, f"op{i}", "cpu_op") + end(10 * i + 5, 1) for i in range(50))
    trace = read(tmp_path, whole[: len(whole) // 2])
    assert 20 <= len(trace.events) < 30
    assert "cut off" in trace.info.warnings[0]


def test_a_damaged_packet_is_left_out_and_said(tmp_path) -> None:
    trace = read(tmp_path, HOST, field(1, b"\xff\xff\xff"), begin(5, 1, "aten::mm", "cpu_op"), end(9, 1))
    assert made.names(trace) == ["aten::mm"]
    assert "1 packets could not be decoded" in trace.info.warnings[0]


def test_a_perfetto_trace_without_slices_is_one_clear_line(tmp_path) -> None:
    with pytest.raises(LongpoleError, match="without track events"):
        read(tmp_path, HOST, STREAM)


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_a_clear_error(data) -> None:
    try:
        found = list(fields(data))
    except TruncatedError:
        return
    assert all(key >= 0 for key, _ in found)


@given(st.integers(-(2**63), 2**63 - 1))
def test_signed_numbers_come_back(value) -> None:
    ((key, found),) = fields(field(5, value))
    assert (key, signed(found)) == (5, value)


def test_nested_slices_in_order_of_time_end_innermost_first() -> None:
    outer, inner = Slice(1, 0, "outer", "", {}), Slice(1, 2, "inner", "", {})
    list(joined([(0, 1, outer), (2, 1, inner), (3, 1, None), (9, 1, None)]))
    assert (outer.end_ns, inner.end_ns) == (9, 3)
