"""What longpole does in the midst of a script draws none of the script's random numbers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import torch

from longpole.capture.random_state import undrawn

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import random, torch
random.seed(1)
net = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(60):
    optimizer.zero_grad()
    net(torch.ones(2, 4)).sum().backward()
    optimizer.step()
print(random.random())
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_each_generator_goes_on_where_it_was() -> None:
    draw()  # numpy makes its generator when it is first asked
    with undrawn():
        first = draw()
        draw()
    assert draw() == first


def test_the_answer_that_comes_while_the_script_runs_draws_nothing(tmp_path: Path) -> None:
    """It imports rich, which draws from Python's generator."""
    (tmp_path / "train.py").write_text(SCRIPT)
    longpole = ["-m", "longpole", "run", "--steps", "2", "--warmup", "1", "-o", "out"]
    with_it, without = (run(tmp_path, *options, "train.py") for options in (longpole, []))
    assert "steps measured" in with_it.stderr.replace("\n  ", " ")
    assert with_it.stdout == without.stdout
