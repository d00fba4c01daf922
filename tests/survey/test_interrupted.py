"""Ctrl-C in `longpole survey`: what is measured is told and written, and the process ends as from the signal."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import pytest
from click.testing import CliRunner

import ctrl_c
from longpole.analysis.survey import load_survey
from longpole.cli import interrupted as leaving
from longpole.cli import survey as cli
from longpole.cli.survey import command
from longpole.survey.survey import NOT_RUN

if TYPE_CHECKING:
    from pathlib import Path

    from longpole.analysis.survey import Survey
    from longpole.capture.launch import Outcome
    from longpole.survey.survey import Plan

pytest.importorskip("torch")

WORDS = ["survey", "mlp", "lenet", "--runs", "1", "--budget", "1", "--no-parallel", "-o", "kept"]


def test_what_is_measured_is_told_and_written(tmp_path: Path) -> None:
    """Ctrl-C comes when the first network is kept."""
    code, said = ctrl_c.interrupted(
        [*WORDS, "--json", "found.json", "--html", "x.html"], tmp_path, tmp_path / "kept" / "mlp-small.json"
    )
    assert code == -signal.SIGINT
    last = "longpole: interrupted when 1 of 2 networks had runs, kept in kept; the same command goes on"
    assert said.splitlines()[-1] == last
    assert "Traceback" not in said
    found = load_survey((tmp_path / "found.json").read_bytes(), "found.json")
    assert found.interrupted
    assert [(row.network, row.runs, row.failed) for row in found.rows] == [("mlp", 1, None), ("lenet", 0, NOT_RUN)]
    assert NOT_RUN in (tmp_path / "x.html").read_text()


def test_before_a_network_is_measured_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(plan: Plan, *, quiet: bool) -> Survey:
        raise KeyboardInterrupt

    def left(outcome: Outcome) -> NoReturn:
        sys.exit(outcome.exit_code)

    monkeypatch.setattr(cli, "_with_progress", measured)
    monkeypatch.setattr(leaving, "leave", left)
    done = CliRunner().invoke(command, ["mlp", "-q", "--json", str(tmp_path / "found.json")])
    assert done.exit_code == 130
    assert done.stderr == "longpole: interrupted before a network was measured; nothing is known\n"
    assert not (tmp_path / "found.json").exists()
