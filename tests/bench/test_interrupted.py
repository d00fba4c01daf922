"""Ctrl-C in `longpole ops`: what is measured is reported and kept, and the same command goes on."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")

from click.testing import CliRunner

import ctrl_c
from longpole.bench import run
from longpole.bench.kept import Kept, add_each
from longpole.bench.results import Results, Row, load_results
from longpole.cli import ops

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

SUITE = ["--suite", "deepbench-inference-device", "--op", "gemm", "--each", "0.001"]


def test_a_signal_ends_the_process_by_it_after_the_report(tmp_path: Path) -> None:
    words = [
        "ops",
        "--suite",
        "deepbench-train",
        "--op",
        "rnn",
        "--each",
        "3600",
        "--results",
        "r.json",
        "--csv",
        "c.csv",
    ]
    code, said = ctrl_c.interrupted(words, tmp_path, tmp_path / "r.json")
    assert code == -signal.SIGINT
    assert re.search(r"interrupted with 5\d sizes to go; the same command goes on from here", said)
    assert "Traceback" not in said
    assert (tmp_path / "c.csv").read_text().startswith("suite,op,index")


def test_what_came_before_is_reported_and_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGPOLE_CACHE", str(tmp_path / "cache"))
    words = [*SUITE, "--results", str(tmp_path / "r.json"), "--json", str(tmp_path / "out.json")]
    real, ended = run.run_size, []

    def third_is_interrupted(*args: object) -> list[Row]:
        if len(load_results(tmp_path / "r.json").rows) == 2:  # pyright: ignore[reportOptionalMemberAccess]
            raise KeyboardInterrupt
        return real(*args)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch:
        patch.setattr(run, "run_size", third_is_interrupted)
        patch.setattr(ops, "leave_interrupted", ended.append)
        CliRunner().invoke(ops.command, words)
    assert ended == ["with 11 sizes to go; the same command goes on from here"]
    assert len(json.loads((tmp_path / "out.json").read_text())["rows"]) == 2
    assert "11 sizes, 2 done before" in CliRunner().invoke(ops.command, words).stderr


def test_what_measures_is_closed() -> None:
    closed: list[bool] = []

    def found() -> Generator[list[Row]]:
        try:
            yield []
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    assert add_each(Kept(Results({}), None), found(), {}) is True
    assert closed == [True]
