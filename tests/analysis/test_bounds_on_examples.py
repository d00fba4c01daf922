"""A ceiling is a ceiling: on the examples no op beats its bound, and what bounds the step adds up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = {"digits_cnn.py": (), "char_gpt.py": ("--steps", "60")}
# Shorter calls are measured to about as well as recording them is taken off.
LEAST_CALL_MS = 0.02
# The clock of a shared processor changes by a tenth within minutes, with what its neighbours do (95 and 105 GFLOP/s
# were seen). Ceilings that were measured in a slow minute are measured anew; the better of both is kept.
AGAIN = 3

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def longpole(*words: str, cache: Path) -> None:
    env = {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "longpole", *words]
    found = subprocess.run(command, env=env, cwd=cache, capture_output=True, text=True, timeout=600, check=False)
    assert found.returncode == 0, found.stderr[-2000:]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    longpole("machine", "--threads", "1", "--budget", "40", cache=cache)
    return cache


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_op_beats_its_bound_and_the_parts_sum(name: str, machine: Path) -> None:
    study = studied(name, machine)
    step = study["step"]["wall_ms"]["mean"]
    shares = {key: ms for key, ms in study["bound_by"].items() if key != "bound_ms"}
    assert sum(shares.values()) == pytest.approx(step, rel=0.01)
    assert shares["compute_ms"] > 0
    assert 0 < study["bound_by"]["bound_ms"] <= step
    for entry in study["op_classes"]:
        assert entry["bound_ms"] is None or entry["bound_ms"] <= entry["ms"] * (1 + 1e-9)
    for _ in range(AGAIN):
        if not beaten(study):
            break
        longpole("machine", "--again", "--threads", "1", "--budget", "20", cache=machine)
        study = studied(name, machine)
    assert not beaten(study)


def studied(name: str, machine: Path) -> dict[str, Any]:
    """The study of an example, with the ceilings that are kept."""
    study_path = machine / f"{name}.json"
    options = ("--steps", "8", "--stop", "--no-save", "-q", "--json", str(study_path))
    longpole("run", *options, str(ROOT / "examples" / name), *EXAMPLES[name], cache=machine)
    return json.loads(study_path.read_text())


def beaten(study: dict[str, Any]) -> list[tuple[str, str, float]]:
    """Ops that took less than their bound allows, by over 5 %."""
    long = [op for op in study["ops"] if op["bound_ms"] is not None and op["ms"] / op["calls"] >= LEAST_CALL_MS]
    assert long
    return [(op["op"], op["shapes"], op["of_ceiling"]) for op in long if op["of_ceiling"] > 1.05]
