"""Scripts that were not written for longpole run as they are: same end of stdout, and a report that adds up."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
NEEDS = {
    "nanogpt_style": "torch",
    "hf_trainer": "transformers",
    "lightning_trainer": "lightning",
    "accelerate_loop": "accelerate",
}

pytestmark = pytest.mark.frameworks


def need(package: str) -> None:
    """Skips where it is not installed; importing it here would let it patch torch under this process's feet."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; make test-frameworks installs it")


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False
    )


def measured(name: str, folder: Path, *args: str) -> tuple[dict[str, Any], str]:
    script = str(SCRIPTS / f"{name}.py")
    found = run("-m", "longpole", "run", "--steps", "6", "--json", "study.json", script, *args, folder=folder)
    assert found.returncode == 0, found.stderr[-2000:]
    return json.loads((folder / "study.json").read_text()), found.stdout


@pytest.mark.parametrize("name", NEEDS)
def test_runs_unmodified_and_adds_up(name: str, tmp_path: Path) -> None:
    need(NEEDS[name])
    plain = run(str(SCRIPTS / f"{name}.py"), folder=tmp_path)
    assert plain.returncode == 0, plain.stderr[-2000:]
    study, stdout = measured(name, tmp_path)
    # Some print how long they took; the last line of each is its loss, to the bit.
    assert stdout.splitlines()[-1] == plain.stdout.splitlines()[-1]
    phases = {phase["phase"]: phase["ms"] for phase in study["phases"]}
    assert {"data", "forward", "backward", "optimizer"} <= phases.keys()
    step = study["step"]["wall_ms"]["mean"]
    assert sum(phases.values()) == pytest.approx(step)
    assert sum(entry["ms"] for entry in study["op_classes"]) == pytest.approx(step, rel=0.01)
    assert study["step"]["accounted_share"] >= 0.99
    assert study["run"]["steps"]["measured"] >= 6
    assert study["run"]["stopped"] == "window"
    leaves = [layer for layer in study["layers"] if not layer["container"]]
    assert sum(layer["weight_grad_ms"] for layer in leaves) > 0
    assert not any(entry["op_class"] == "unclassified" for entry in study["op_classes"])


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    need("transformers")
    study, _ = measured("hf_trainer", tmp_path, "--accumulate", "2", "--eval-every", "1000")
    linear = next(layer for layer in study["layers"] if layer["layer"].endswith("h.0.mlp.c_fc"))
    assert linear["calls"] == 2


def test_names_the_trainers_own_line_where_the_user_has_none(tmp_path: Path) -> None:
    need("transformers")
    study, _ = measured("hf_trainer", tmp_path)
    places = [site["where"] for phase in study["phases"] if phase["phase"] == "other" for site in phase["sites"]]
    assert places
    assert not any("hf_trainer.py" in place for place in places)
