"""Ranks studied by processes of their own give the study that one process makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import made_traces as made
from longpole.analysis.make import study
from longpole.cli import ranks_at_once
from longpole.cli.opening import open_paths, read_traces
from longpole.errors import LongpoleError
from made_traces import kernel, runtime, span

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(ranks_at_once, "cores", lambda: 2)
    paths: list[Path] = []
    for rank, steps in ((2, 3), (0, 4), (1, 4)):  # the first file has a step less: it is left out everywhere
        events = [span("user_annotation", f"ProfilerStep#{step}", 1000 * step, 1000) for step in range(steps)]
        for call in range(10 * steps):
            start = 100 * call
            events += [
                span("cpu_op", "aten::mm", start, 30 + rank),
                runtime("cudaLaunchKernel", start + 5, 4, correlation=call + 1),
                kernel("gemm" if call % 3 else "ncclDevKernel_AllReduce", start + 20 + rank, 50, correlation=call + 1),
            ]
        paths.append(made.write(tmp_path / f"r{rank}.json", events, distributedInfo={"rank": rank, "world_size": 3}))
    return paths


def test_the_study_is_the_same(ranks: list[Path]) -> None:
    together, alone = open_paths(ranks), study(read_traces(ranks))
    assert [rank.rank for rank in together.study.ranks] == [0, 1, 2]
    assert together.study.to_json() == alone.to_json()
    assert [len(trace.events) for trace in together.traces] == [124, 124, 93]


def test_one_step_of_every_rank(ranks: list[Path]) -> None:
    assert open_paths(ranks, 1).study.run.steps.measured == 1
    with pytest.raises(LongpoleError, match="no step 3: the trace has steps 0 to 2"):
        open_paths(ranks, 3)


def test_what_is_no_trace_is_said(ranks: list[Path], tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text("[]")
    with pytest.raises(LongpoleError, match=r"odd\.json is JSON but no trace"):
        open_paths([*ranks, tmp_path / "odd.json"])
