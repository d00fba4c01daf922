"""Ctrl-C in `longpole converge`: what finished runs gave is told and kept, and the process ends as from the signal."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import msgspec
import pytest

import ctrl_c
from longpole.analysis.converge_results import Convergence

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("torch")

# The first FAST runs end by themselves; the next one goes on for minutes, and says when it has made two steps.
SCRIPT = """
import pathlib, time, torch
begun = pathlib.Path("begun")
runs = len(begun.read_text()) if begun.exists() else 0
begun.write_text("x" * (runs + 1))
weight = torch.randn(4, requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=0.05)
for step in range(25 if runs < FAST else 5000):
    optimizer.zero_grad()
    weight.square().sum().backward()
    optimizer.step()
    if step == WHEN:
        pathlib.Path(f"there-{runs}").touch()
    if runs >= FAST and step >= WHEN:
        time.sleep(0.05)
"""


def interrupted(folder: Path, fast: int, *, when: int = 20) -> tuple[int, str]:
    """The exit code and what was said, of two ways of three seeds; Ctrl-C reaches the whole group, as in a terminal."""
    (folder / "train.py").write_text(SCRIPT.replace("FAST", str(fast)).replace("WHEN", str(when)))
    words = ["converge", "--seeds", "3", "--json", "found.json", "--no-save", "train.py", "--", "--other"]
    return ctrl_c.interrupted(words, folder, folder / f"there-{fast}")


@pytest.mark.parametrize(("finished", "sides"), [(1, [1]), (3, [2, 1])])
def test_finished_runs_are_told(finished: int, sides: list[int], tmp_path: Path) -> None:
    """After one run only the first way has any; after three, two and one."""
    code, said = interrupted(tmp_path, finished)
    assert code == -signal.SIGINT
    assert f"interrupted: {finished} finished run" in " ".join(said.split())
    found = msgspec.json.decode((tmp_path / "found.json").read_bytes(), type=Convergence)
    assert found.interrupted
    assert [len(side.runs) for side in found.sides] == sides
    assert (found.comparison is not None) == (len(sides) == 2)
    assert all(run.steps == 25 for side in found.sides for run in side.runs)
    assert "Traceback" not in said


def test_the_only_run_is_told_up_to_there(tmp_path: Path) -> None:
    code, said = interrupted(tmp_path, 0)
    assert code == -signal.SIGINT
    assert "interrupted in the first run" in said
    [side] = msgspec.json.decode((tmp_path / "found.json").read_bytes(), type=Convergence).sides
    assert [run.stopped for run in side.runs] == ["interrupt"]
    assert side.runs[0].steps >= 20


def test_before_any_step_there_is_nothing_to_tell(tmp_path: Path) -> None:
    code, said = interrupted(tmp_path, 0, when=0)
    assert code == -signal.SIGINT
    assert "Traceback" not in said
    assert "Aborted" not in said
