"""Whole scripts under `longpole converge --noise` have the losses, to the last bit, that they have without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

# Prints every loss in full, whatever the script says of it, and runs the script.
TELL = """
import runpy, sys, torch
plain = torch.Tensor.backward
def backward(self, *args, **kwargs):
    print("loss", self.item().hex())
    return plain(self, *args, **kwargs)
torch.Tensor.backward = backward
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SCRIPTS = {
    "char_gpt": (
        "examples/char_gpt.py --steps 16 --layers 2 --heads 2 --embed 32 --block-size 32 --eval-every 8",
        "parts of the batch",
    ),
    "digits_cnn": ("examples/digits_cnn.py --epochs 1 --width 4 --workers 0", "halves run again"),
    "accumulation": (
        "tests/scripts/nanogpt_style.py max_iters=14 n_layer=2 eval_interval=7 eval_iters=1",
        "micro-batches",
    ),
}


def losses(command: list[str], folder: Path) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("loss ")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_losses_are_the_same_to_the_bit_with_and_without_measuring(name: str, tmp_path: Path) -> None:
    if name == "digits_cnn":
        pytest.importorskip("sklearn")
    words, method = SCRIPTS[name]
    (tmp_path / "tell.py").write_text(TELL)
    script, *rest = words.split()
    target = ["tell.py", str(ROOT / script), *rest]
    plain = losses([sys.executable, *target], tmp_path)
    ours = [sys.executable, "-m", "longpole", "converge", "--noise", "--noise-every", "2", "--no-save"]
    assert losses([*ours, "--json", "noise.json", *target], tmp_path) == plain
    assert len(plain) > 10
    noise = msgspec.json.decode((tmp_path / "noise.json").read_bytes())["noise"]
    assert noise["method"] == method
    assert noise["sampled"] >= 5
    assert noise["covered_share"] > 0.85
    assert noise["total"] is not None
