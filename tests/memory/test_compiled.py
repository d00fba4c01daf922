"""A compiled region is one block: what it keeps for backward is counted, and it is not compiled anew for that."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import sys, torch
from torch import nn
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        middle = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 1)
        self.middle = torch.compile(middle, backend=sys.argv[1])
    def forward(self, x):
        return self.last(self.middle(self.first(x)))

net = Net()
optimizer = torch.optim.SGD(net.parameters(), 0.01)
for step in range(40):
    optimizer.zero_grad()
    loss = net(torch.randn(256, 64)).square().mean()
    loss.backward()
    optimizer.step()
print(loss.item(), torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""
NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler on CPU")


def run(*words: str, where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=where, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, NEEDS_COMPILER])])
def test_what_a_compiled_region_keeps_is_counted_to_the_byte(backend: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    plain = run("train.py", backend, where=tmp_path)
    options = ("--steps", "4", "--warmup", "2", "--no-save", "-q", "--json", "s.json", "--trace", "t.longpole")
    done = run("-m", "longpole", "run", *options, "train.py", backend, where=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == plain.stdout  # the same loss, and no graph more
    found: dict[str, Any] = json.loads((tmp_path / "s.json").read_text())
    memory, layers = found["memory"], found["layers"]
    saved = {layers[row["layer"]]["layer"]: row["bytes"] for row in memory["saved_by_layer"]}
    # The region's input, the first Linear's output and GELU's: what its two Linears and GELU need.
    assert saved["middle"] == 4 * 256 * (64 + 128 + 128)
    assert (saved["first"], saved["last"]) == (4 * 256 * 64, 4 * 256 * 64)
    assert memory["holders"] == []  # who holds the peak is not known, and said to be
    assert any("torch.compile" in note for note in memory["notes"])
    priced = run("-m", "longpole", "memory", "t.longpole", where=tmp_path)
    assert (priced.returncode, len(priced.stderr.splitlines())) == (2, 1)
    assert "torch.compile" in priced.stderr
