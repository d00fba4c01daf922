"""Ranks read by several processes are the ranks read by one, and an error in one is still one line."""

from __future__ import annotations

import io

import pytest

import made_traces as made
from longpole.errors import LongpoleError
from longpole.importers import open_trace, open_traces
from longpole.importers.shipping import read_trace, write_trace
from made_traces import kernel, runtime, same, span


@pytest.fixture
def ranks(tmp_path):
    paths = []
    for rank in (2, 0, 1):
        events = [span("cpu_op", f"op {i} of {rank}", i, 1, Input_Dims=[[i, rank]]) for i in range(20)]
        events += [runtime("cudaLaunchKernel", 30, 1, correlation=3), kernel(f"k{rank}", 40, 5, correlation=3)]
        paths.append(made.write(tmp_path / f"rank{rank}.json", events, distributedInfo={"rank": rank}))
    return paths


def test_one_process_and_several_read_the_same(ranks) -> None:
    alone, together = open_traces(ranks, workers=1), open_traces(ranks, workers=2)
    assert [trace.info.rank for trace in together] == [0, 1, 2]
    assert all(same(one, other) for one, other in zip(alone, together, strict=True))


def test_an_error_in_a_process_is_the_error_here(ranks, tmp_path) -> None:
    (tmp_path / "odd.json").write_text("hello")
    with pytest.raises(LongpoleError, match=r"odd\.json is not a trace"):
        open_traces([*ranks, tmp_path / "odd.json"], workers=2)


def test_a_trace_survives_shipping(ranks) -> None:
    trace = open_trace(ranks[0])
    block = io.BytesIO()
    write_trace(trace, block)
    assert same(trace, read_trace(block.getvalue()))


def test_no_file_is_no_trace() -> None:
    assert open_traces([]) == []
