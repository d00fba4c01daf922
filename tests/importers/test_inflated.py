"""A gzipped file inflated here and read in stretches is the file read at once; where that is not sure, it is."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import made_traces as made
from longpole.errors import LongpoleError
from longpole.importers import inflated, json_events, open_trace, workers
from longpole.importers.inflated import read_large_gzip
from made_traces import kernel, runtime, same, span
from shared_paths import trace_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TIMES = 60
EVENTS = 3 * TIMES
RECORDED = [path for path in trace_files() if path.suffix == ".gz" and 500_000 < path.stat().st_size < 1_200_000]


@pytest.fixture(autouse=True)
def cut_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflated, "LARGE_GZIP_BYTES", 0)
    monkeypatch.setattr(inflated, "STRETCH_BYTES", 700)
    monkeypatch.setattr(inflated, "LOOK_BYTES", 400)
    monkeypatch.setattr(inflated, "LEARN_BYTES", 400)
    monkeypatch.setattr(inflated, "READ_BYTES", 300)
    monkeypatch.setattr(json_events, "PIECE_BYTES", 300)


def training() -> list[dict[str, Any]]:
    return [
        event
        for i in range(TIMES)
        for event in (
            span("cpu_op", f"aten::op{i % 7}", 10 * i, 8, **{"External id": i + 1, "Input Dims": [[i % 5, 3], []]}),
            runtime("cudaLaunchKernel", 10 * i + 1, 2, correlation=i + 1),
            kernel(f"kernel {i % 11}", 10 * i + 5, 4, correlation=i + 1, stream=7 + i % 2),
        )
    ]


def written(folder: Path, text: bytes | str, end: int = 0) -> Path:
    """The text gzipped, without the last `end` bytes of the file."""
    path = folder / "t.json.gz"
    packed = gzip.compress(text.encode() if isinstance(text, str) else text)
    path.write_bytes(packed[: len(packed) - end])
    return path


@pytest.mark.parametrize("count", [1, 2, 3])
def test_stretches_are_the_whole(tmp_path: Path, count: int) -> None:
    path = written(tmp_path, made.kineto_text(training()))
    found, alone = read_large_gzip(path, count), open_trace(path, workers=1)
    assert found is not None
    assert same(found, alone)
    assert len(alone.events) == EVENTS


def test_members_one_after_the_other_are_one_text(tmp_path: Path) -> None:
    text = made.kineto_text(training()).encode()
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(text[:5000]) + gzip.compress(text[5000:]) + bytes(100))
    found = read_large_gzip(path, 2)
    assert found is not None
    assert len(found.events) == EVENTS


@pytest.mark.parametrize("end", [1, 8, 40, 300])
def test_a_cut_off_file_is_cut_off_the_same(tmp_path: Path, end: int) -> None:
    path = written(tmp_path, made.kineto_text(training()), end)
    found, alone = read_large_gzip(path, 2), open_trace(path, workers=1)
    assert found is not None
    assert same(found, alone)
    assert found.info.warnings == alone.info.warnings
    assert any("gzip stream ends early" in warning for warning in found.info.warnings) == (end > 8)


def test_fields_after_the_events_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, made.kineto_text(training(), tail='"distributedInfo": {"rank": 5}'))
    found = read_large_gzip(path, 2)
    assert found is not None
    assert found.info.rank == 5


def test_a_lost_process_costs_time_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, made.kineto_text(training()))
    monkeypatch.setattr(workers, "WORKER", "longpole.no_such_module")
    assert read_large_gzip(path, 2) is None
    assert len(open_trace(path, workers=2).events) == EVENTS


def test_a_second_list_is_not_mistaken_for_the_first(tmp_path: Path) -> None:
    more = json.dumps([span("cpu_op", "not an event", i, 1) for i in range(60)], indent=2)
    path = written(tmp_path, made.kineto_text(training(), tail=f'"others": {more}'))
    assert read_large_gzip(path, 1) is None
    assert len(open_trace(path, workers=2).events) == EVENTS


def test_what_is_not_gzipped_json_is_for_others(tmp_path: Path) -> None:
    plain = tmp_path / "t.json"
    plain.write_text(made.kineto_text(training()))
    assert read_large_gzip(plain, 2) is None
    assert read_large_gzip(written(tmp_path, b"\n\x08" * 500), 2) is None
    with pytest.raises(LongpoleError, match="no traceEvents"):
        read_large_gzip(written(tmp_path, json.dumps({"numbers": list(range(1000))})), 2)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.text(max_size=40) | st.sampled_from(['"\n  },\n  {\n', "},{", "\\", "]}"]), min_size=20),
    end=st.integers(0, 200),
    indent=st.sampled_from([None, 1, 2]),
)
def test_any_file_in_stretches_is_the_file_at_once(
    tmp_path: Path, names: Sequence[str], end: int, indent: int | None
) -> None:
    events = [span("cpu_op", name, place, 3) for place, name in enumerate(names)]
    path = written(tmp_path, json.dumps(made.document(events), indent=indent), end if end < 100 else 0)
    found, alone = read_large_gzip(path, 1), open_trace(path, workers=1)
    assert found is None or same(found, alone)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in RECORDED[:3]])
def test_recorded_traces_in_stretches(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    sizes = {"STRETCH_BYTES": 2 << 20, "LOOK_BYTES": 1 << 20, "READ_BYTES": 1 << 17, "LEARN_BYTES": 1 << 16}
    for name, size in sizes.items():
        monkeypatch.setattr(inflated, name, size)
    monkeypatch.setattr(json_events, "PIECE_BYTES", 1 << 17)
    found = read_large_gzip(path, 1)
    assert found is not None
    assert same(found, open_trace(path, workers=1))
