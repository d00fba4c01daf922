"""Processes that read for this one, started before they are needed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from longpole.importers import workers
from longpole.importers.workers import can_start, start_ahead, worker

if TYPE_CHECKING:
    from pathlib import Path


RANKS = "longpole.cli.ranks_at_once"


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    if not can_start():
        pytest.skip("no processes on this system")
    monkeypatch.setattr(workers, "_ahead", {})
    monkeypatch.setattr(workers, "LARGE_BYTES", 100)
    monkeypatch.setattr(workers, "cores", lambda: 2)


def started() -> list[subprocess.Popen[bytes]]:
    return [process for some in workers._ahead.values() for process in some]  # pyright: ignore[reportPrivateUsage]


def test_the_process_started_ahead_is_the_one_that_works(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text('{"traceEvents": []}' + " " * 100)
    start_ahead([path], RANKS)
    (ahead,) = started()
    with worker() as process:
        assert process is ahead
        assert not started()
    assert ahead.returncode == 0  # its input ended, and so did it


@pytest.mark.parametrize(
    ("name", "content"),
    [("small.json", b"{}"), ("gzipped.json.gz", b"\x1f\x8b" + bytes(200)), ("native.pftrace", b"\n\x08" * 99)],
)
def test_none_is_started_for_files_that_one_process_reads(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    start_ahead([path], RANKS)
    start_ahead([tmp_path / "missing.json"], RANKS)
    start_ahead([tmp_path], RANKS)
    assert not started()


def test_several_files_get_processes_of_their_own(tmp_path: Path) -> None:
    start_ahead([tmp_path / f"rank{rank}.json" for rank in range(3)], RANKS)
    ahead = started()
    assert len(ahead) == 2  # one a core
    with worker(RANKS) as one, worker(RANKS) as other:
        assert {one, other} == set(ahead)
        assert not started()
    assert [process.returncode for process in ahead] == [0, 0]


def test_what_this_process_reads_itself_needs_no_other(tmp_path: Path) -> None:
    start_ahead([tmp_path / "one.longpole", tmp_path / "other.longpole"], RANKS)
    assert not started()


def test_preparing_imports_no_numpy() -> None:
    code = "import longpole.cli.open, longpole.importers.workers, longpole.importers.kept_memory, sys"
    said = subprocess.run(
        [sys.executable, "-c", f"{code}; print('numpy' in sys.modules)"], capture_output=True, check=True
    )
    assert said.stdout == b"False\n"
