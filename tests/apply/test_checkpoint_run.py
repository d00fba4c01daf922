"""`longpole run --checkpoint` on a script: the same output, the role of what runs again, and refusals in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from longpole.whatif.changes import Changes
from longpole.whatif.rerun import Request, rerun

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import sys
import torch
from torch import nn
torch.manual_seed(7)
net = nn.Sequential(*(nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Dropout(0.2)) for _ in range(4)), nn.Linear(32, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(60):
    optimizer.zero_grad()
    loss = net(torch.randn(8, 32)).square().mean()
    loss.backward()
    optimizer.step()
    print(step, loss.item().hex())
print("drawn", torch.rand(1).item().hex(), sum(p.sum().item() for p in net.parameters()).hex())
sys.exit(3)
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "train.py"
    path.write_text(dedent(SCRIPT))
    return str(path)


def run(script: str, *options: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "longpole", "run", "--quiet", "--steps", "3", "--warmup", "2", *options, script]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_output_and_exit_code_are_the_scripts_and_what_runs_again_has_its_role(script: str, tmp_path: Path) -> None:
    alone = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    done = run(script, "--no-save", "--json", "study.json", "--checkpoint", "1-2,0", cwd=tmp_path)
    assert (done.stdout, done.returncode) == (alone.stdout, 3)
    study: dict[str, Any] = json.loads((tmp_path / "study.json").read_text())
    again = {layer["layer"] for layer in study["layers"] if layer["recompute_ms"]}
    # of the last block in forward, the dropout's mask is kept; so all three run again
    assert {"0.0", "0.1", "1.0", "1.1", "2.0", "2.1"} <= again
    assert not {"3", "3.0", "3.1", "4"} & again
    assert study["run"]["facts"]["checkpoint"] == "1-2, 0"
    assert study["run"]["parameters"] == 4 * (32 * 32 + 32) + 33


@pytest.mark.parametrize("name", ["5", "1.0.deeper", "2-1"])
def test_a_name_that_fits_nothing_is_one_line_and_nothing_is_measured(script: str, tmp_path: Path, name: str) -> None:
    done = run(script, "--json", "study.json", "--checkpoint", name, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"--checkpoint {name}" in done.stderr.replace("'", "")
    assert not (tmp_path / "study.json").exists()
    assert not (tmp_path / "longpole-runs").exists()


def test_the_change_reaches_a_script_that_is_run_again(script: str) -> None:
    to_its_end = ("--steps", "3", "--warmup", "2")  # when a run that stops does so depends on how fast it is
    plain, again = (rerun(Request([script], Changes(checkpoint=names), to_its_end)) for names in ((), ("0-3",)))
    assert plain.stdout == again.stdout
    assert any(layer.recompute_ms for layer in again.study.layers)
    assert not any(layer.recompute_ms for layer in plain.study.layers)
