"""Ctrl-C in `longpole sweep`: what is measured is told and kept, the same command goes on, and the signal ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import ctrl_c
from longpole.sweep.result import load_sweep

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("torch")

# The run of this number does not end by itself, and says when it is there.
SCRIPT = """
import pathlib, time, torch
begun = pathlib.Path("begun")
runs = len(begun.read_text()) if begun.exists() else 0
begun.write_text("x" * (runs + 1))
if runs == STUCK:
    pathlib.Path("stuck").touch()
    time.sleep(600)
net = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for _ in range(300):
    optimizer.zero_grad()
    net(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
"""
WORDS = ["sweep", "--vary", "threads=1,2", "--repeat", "1", "--steps", "2", "--warmup", "1", "--json", "found.json"]


def test_what_is_measured_is_told_and_the_same_command_goes_on(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT.replace("STUCK", "1"))
    code, said = ctrl_c.interrupted([*WORDS, "train.py"], tmp_path, tmp_path / "stuck")
    assert code == -signal.SIGINT
    assert said.splitlines()[-1] == "longpole: interrupted after 1 of 2 runs; the same command goes on from here"
    assert "Traceback" not in said
    assert "budget ended" not in said
    found = load_sweep((tmp_path / "found.json").read_bytes(), "found.json")
    assert found.interrupted
    assert found.warnings[0] == "Interrupted: the figures are those of 1 of 2 runs."
    assert len(found.runs) == 1
    again = subprocess.run(
        [sys.executable, "-m", "longpole", *WORDS, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "1 done before" in again.stderr
    whole = load_sweep((tmp_path / "found.json").read_bytes(), "found.json")
    assert (len(whole.runs), whole.interrupted) == (2, False)


def test_before_a_run_is_measured_no_folder_is_left(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT.replace("STUCK", "0"))
    code, said = ctrl_c.interrupted([*WORDS, "train.py"], tmp_path, tmp_path / "stuck")
    assert code == -signal.SIGINT
    assert said.splitlines()[-1] == "longpole: interrupted before a run was measured; nothing is known"
    assert "Aborted" not in said
    assert not (tmp_path / "longpole-runs").exists()
