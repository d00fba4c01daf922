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


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    if not can_start():
        pytest.skip("no processes on this system")
    monkeypatch.setattr(workers, "LARGE_BYTES", 100)
    monkeypatch.setattr(workers, "cores", lambda: 2)


def started() -> list[subprocess.Popen[bytes]]:
    return workers._ahead  # pyright: ignore[reportPrivateUsage]


def test_the_process_started_ahead_is_the_one_that_works(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text('{"traceEvents": []}' + " " * 100)
    start_ahead([path])
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
    start_ahead([path])
    start_ahead([tmp_path / "missing.json"])
    start_ahead([tmp_path])
    assert not started()


def test_several_files_get_processes_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text("[" + " " * 200)
    start_ahead([path, path])
    assert not started()


def test_preparing_imports_no_numpy() -> None:
    code = "import longpole.cli.open, longpole.importers.workers, longpole.importers.kept_memory, sys"
    said = subprocess.run(
        [sys.executable, "-c", f"{code}; print('numpy' in sys.modules)"], capture_output=True, check=True
    )
    assert said.stdout == b"False\n"
