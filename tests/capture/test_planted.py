"""Delays of known size are found where they were planted: phase, layer, role and source line. No times are asserted.

`benchmarks/accuracy.py` says how exact the figures are.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from longpole.analysis.study import load_study

if TYPE_CHECKING:
    from longpole.analysis.study import Study

PLANTED = Path(__file__).resolve().parents[1] / "planted"
DELAY_MS = "20"  # far more than anything else in the step, on a busy machine too
WAIT = "time.sleep(delay.sleep_s)"


def study_of(folder: Path, name: str, *args: str) -> Study:
    command = [
        "-m",
        "longpole",
        "run",
        "-q",
        "--no-save",
        "--stop",
        "--steps",
        "8",
        "--warmup",
        "2",
        "--json",
        "s.json",
    ]
    subprocess.run(
        [sys.executable, *command, str(PLANTED / f"{name}.py"), *args],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    return load_study((folder / "s.json").read_bytes(), "s.json")


def planted_lines(name: str) -> list[str]:
    """The lines of the waits, as longpole should name them."""
    lines = (PLANTED / f"{name}.py").read_text().splitlines()
    return [f"{name}.py:{number}" for number, line in enumerate(lines, 1) if WAIT in line]


def largest_phase(study: Study) -> str:
    return max(study.phases, key=lambda phase: phase.ms).phase


CASES = {
    "dataset_delay": "data",
    "batch_function_delay": "data",
    "batch_between": "data",
    "functional": "data",
    "threads_train": "data",
    "accumulation": "data",
    "forward_delay": "forward",
    "gan": "forward",
    "backward_delay": "backward",
    "hook_backward_delay": "backward",
    "optimizer_delay": "optimizer",
    "logging_delay": "other",
    "logging_before_backward": "other",
    "checkpoint_delay": "checkpoint",
    "eval_delay": "evaluation",
}


# All of them take a minute and more; these stand for the rest in the quick tests.
QUICK = ("batch_between", "backward_delay")
MARKED = [pytest.param(*case, id=case[0], marks=() if case[0] in QUICK else pytest.mark.slow) for case in CASES.items()]


@pytest.mark.parametrize(("name", "phase"), MARKED)
def test_the_delay_is_in_its_phase_and_on_its_line(tmp_path: Path, name: str, phase: str) -> None:
    every = ("--every", "1") if name in ("checkpoint_delay", "eval_delay") else ()
    study = study_of(tmp_path, name, "--delay-ms", DELAY_MS, *every)
    assert study.step.accounted_share is not None
    assert study.step.accounted_share >= 0.99
    assert largest_phase(study) == phase
    [found] = [entry for entry in study.phases if entry.phase == phase]
    where = found.sites[0].where
    assert where.split(" in ")[0] in planted_lines(name), found.sites
    assert " in " in where, "the function is named, too"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer"),
    [("forward_delay", "slow"), ("backward_delay", "slow"), ("hook_backward_delay", "slow"), ("gan", "Discriminator")],
)
def test_the_delay_is_in_its_layer_and_role(tmp_path: Path, name: str, layer: str) -> None:
    study = study_of(tmp_path, name, "--delay-ms", DELAY_MS)
    backward = "backward" in name

    def own(entry: object, role: str) -> float:
        prefix = "own_" if getattr(entry, "container", False) else ""
        return float(getattr(entry, f"{prefix}{role}_ms") or 0.0)

    times = {(entry.layer, role): own(entry, role) for entry in study.layers for role in ("forward", "backward")}
    assert max(times, key=times.__getitem__) == (layer, "backward" if backward else "forward")


def test_each_of_several_delays_is_in_its_own_place(tmp_path: Path) -> None:
    study = study_of(tmp_path, "everything", "--delay-ms", "3")
    phases = {phase.phase: phase for phase in study.phases}
    names = ("data", "backward", "forward", "optimizer", "other")
    best = {name: phases[name].sites[0].where for name in names}
    functions = {name: where.rpartition(" in ")[2] for name, where in best.items()}
    expected = ("__getitem__", "backward", "forward", "step", "log")
    assert functions == dict(zip(names, expected, strict=True))
    assert sorted(where.split(" in ")[0] for where in best.values()) == sorted(planted_lines("everything"))


@pytest.mark.slow
def test_a_batch_function_and_a_loader_are_told_alike(tmp_path: Path) -> None:
    study = study_of(tmp_path, "everything", "--delay-ms", "3", "--data", "function")
    [data] = [phase for phase in study.phases if phase.phase == "data"]
    assert "in __getitem__" in data.sites[0].where


@pytest.mark.slow
@pytest.mark.parametrize("name", ["activation_checkpointing", "amp", "closure_lbfgs", "many_tiny", "tied_weights"])
def test_everything_is_accounted_for(tmp_path: Path, name: str) -> None:
    study = study_of(tmp_path, name)
    assert study.step.accounted_share is not None
    assert study.step.accounted_share >= 0.99
    assert sum(phase.ms for phase in study.phases) == pytest.approx(study.step.wall_ms.mean, rel=1e-6)
    assert sum(entry.ms for entry in study.op_classes) == pytest.approx(study.step.wall_ms.mean, rel=0.02)
    if name == "activation_checkpointing":
        assert sum(layer.recompute_ms or 0.0 for layer in study.layers if not layer.container) > 0
