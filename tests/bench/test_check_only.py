"""`longpole ops --check`: every result compared with float64, nothing timed, and nothing taken for measured."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

SUITE = ("--suite", "deepbench-inference-device", "--op", "rnn", "--threads", "1")


def ops(folder: Path, *args: str) -> tuple[str, list[dict[str, Any]]]:
    """stdout and the rows of `longpole ops`, which keeps its results in the folder."""
    out = folder / "out.json"
    command = [sys.executable, "-m", "longpole", "ops", *SUITE, "--results", "kept.json", "--json", str(out), *args]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout + done.stderr, json.loads(out.read_text())["rows"]


def test_results_are_checked_and_nothing_is_timed(tmp_path: Path) -> None:
    text, rows = ops(tmp_path, "--check")
    assert {row["index"] for row in rows} == {0, 1, 2}
    assert all(row["correct"] is True and row["error"] <= row["tolerance"] for row in rows)
    assert all(row["median_ms"] is None for row in rows)
    assert text.count("agrees with float64") == len(rows)


def test_what_was_only_checked_is_still_timed_and_what_was_timed_is_not_checked_again(tmp_path: Path) -> None:
    ops(tmp_path, "--check")
    text, rows = ops(tmp_path, "--each", "0.002")
    assert "3 sizes" in text
    assert all(row["median_ms"] > 0 for row in rows)
    text, again = ops(tmp_path, "--check")
    assert "3 done before" in text
    assert [row["median_ms"] for row in again] == [row["median_ms"] for row in rows]
