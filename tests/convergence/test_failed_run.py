"""A run of `longpole converge` that fails: what the runs before it gave is told and kept, and the exit code is 2."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from longpole.analysis.converge_results import Convergence
from longpole.convergence import gather as gathering
from longpole.convergence.gather import Wish, gather
from longpole.convergence.observed import Observed, Series
from longpole.convergence.runs import Limits, Way
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from pathlib import Path

# What a run does is its number in PLAN: so many steps, then this exit.
SCRIPT = """
import pathlib, torch
begun = pathlib.Path("begun")
runs = len(begun.read_text()) if begun.exists() else 0
begun.write_text("x" * (runs + 1))
steps, fails = PLAN[runs]
weight = torch.randn(4, requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=0.05)
for step in range(steps):
    optimizer.zero_grad()
    weight.square().sum().backward()
    optimizer.step()
if fails: raise OSError("the disk is full")  # in one line: Python points at its part with carets
"""
BEFORE_TORCH = 'import pathlib\nif pathlib.Path("begun").exists():\n    raise SystemExit("no licence left")\n'


def converged(script: str, folder: Path, *words: str) -> tuple[int, str]:
    """The exit code of three seeds, and what was said."""
    (folder / "train.py").write_text(script)
    command = [sys.executable, "-m", "longpole", "converge", "--seeds", "3", "--json", "found.json", "--html", "x.html"]
    done = subprocess.run(
        [*command, "--no-save", *words, "train.py"],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_the_runs_before_it_are_told_and_written(tmp_path: Path) -> None:
    """Two runs of 25 steps; the third fails after 7, which settles nothing and counts for nothing."""
    code, said = converged(SCRIPT.replace("PLAN", "[(25, 0), (25, 0), (7, 1)]"), tmp_path)
    assert code == 2
    last = said.splitlines()[-1]
    assert last.startswith("longpole: seed 3 of 3 failed: train.py: the script failed after 7 steps: ")
    assert last.endswith("OSError: the disk is full")
    assert "^" not in last
    found = msgspec.json.decode((tmp_path / "found.json").read_bytes(), type=Convergence)
    [side] = found.sides
    assert [(run.seed, run.steps) for run in side.runs] == [(0, 25), (1, 25)]
    assert found.failed == last.removeprefix("longpole: ")
    assert not found.interrupted
    assert f"{found.failed}; 2 finished runs count, and no run was made after it" in found.warnings
    assert "the disk is full" in (tmp_path / "x.html").read_text()
    assert "2 finished runs count" in " ".join(said.split())


def test_one_that_did_not_come_to_torch_is_told_in_its_own_words(tmp_path: Path) -> None:
    code, said = converged(BEFORE_TORCH + SCRIPT.replace("PLAN", "[(25, 0)]"), tmp_path, "--quiet")
    assert code == 2
    failed = "seed 2 of 3 failed: train.py: the script never imported torch; it ended with exit code 1: no licence left"
    assert said.splitlines() == [f"longpole: {failed}"]
    found = msgspec.json.decode((tmp_path / "found.json").read_bytes(), type=Convergence)
    assert [len(side.runs) for side in found.sides] == [1]


def test_a_first_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    code, said = converged(SCRIPT.replace("PLAN", "[(0, 1)]"), tmp_path)
    assert code == 2
    assert said.startswith("longpole: train.py: no training step was seen: ")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "found.json").exists()


# -- which runs count, with made-up ones -----------------------------------------------------------------------------

ONE, TWO = Way("one", ["one.py"]), Way("two", ["two.py"])


def ran(stopped: str = "script end", name: str = "loss") -> Observed:
    notes = ["the script failed after 3 steps: no"] if stopped == "error" else []
    losses = [Series(name, [1, 2, 3], [3.0, 2.0, 1.0])]
    return Observed(step_ends_ns=[10, 20, 30], losses=losses, stopped=stopped, notes=notes)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Observed | LongpoleError]:
    """What the next runs come to, in order."""
    waiting: list[Observed | LongpoleError] = []

    def follow(way: Way, seed: int, limits: Limits, returned: str | None = None) -> Observed:
        run = waiting.pop(0)
        if isinstance(run, LongpoleError):
            raise run
        return run

    monkeypatch.setattr(gathering, "follow", follow)
    return waiting


def test_a_script_that_always_ends_in_failure_counts_as_it_did(runs: list[Observed | LongpoleError]) -> None:
    runs += [ran("error"), ran("error"), ran()]
    found = gather([ONE], Wish(seeds=3))
    assert found.failed is None
    assert [seed for seed, _ in found.runs[0]] == [0, 1, 2]


def test_of_two_ways_the_other_keeps_its_run_of_that_seed(runs: list[Observed | LongpoleError]) -> None:
    runs += [ran(), ran(), ran(), LongpoleError("two: killed"), ran()]
    found = gather([ONE, TWO], Wish(seeds=3))
    assert found.failed == "seed 2 of 3 failed: two: killed"
    assert [len(side) for side in found.runs] == [2, 1]
    assert len(runs) == 1, "no run is made after it"


def test_a_later_run_without_the_metric_loses_none_before_it(runs: list[Observed | LongpoleError]) -> None:
    runs += [ran(), ran(name="other")]
    found = gather([ONE], Wish(seeds=2))
    assert found.failed == "seed 2 of 2 failed: one: loss was not seen in every run; there is: other"
    assert len(found.runs[0]) == 1


@pytest.mark.parametrize("second", [LongpoleError("two: killed"), ran(name="other")])
def test_a_way_whose_first_run_fails_is_an_error(
    runs: list[Observed | LongpoleError], second: Observed | LongpoleError
) -> None:
    runs += [ran(), second]
    with pytest.raises(LongpoleError, match=r"^two: "):
        gather([ONE, TWO], Wish(seeds=2))


def test_a_metric_that_is_not_there_ends_it_after_one_run(runs: list[Observed | LongpoleError]) -> None:
    runs += [ran(), ran()]
    with pytest.raises(LongpoleError):
        gather([ONE], Wish(seeds=2, metric="accuracy"))
    assert len(runs) == 1
