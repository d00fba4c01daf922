"""`longpole converge` follows what trainers and loggers of others report, and seeds what they seed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from longpole.convergence.metrics import metrics_of
from longpole.convergence.observed import Observed, Options
from longpole.whatif.changes import Changes, tell

SCRIPTS = Path(__file__).parent.parent / "scripts"
pytestmark = pytest.mark.frameworks


def need(package: str) -> None:
    """Skips where it is not installed; importing it here would let it patch torch under this process's feet."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def followed(folder: Path, *words: str, seed: int = 0) -> tuple[Observed, str]:
    """What was followed, and the script's stdout."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_SILENT": "true"}
    tell(Changes(seed=seed), environment)
    options = msgspec.json.encode(Options(str(folder / "followed.json"))).decode()
    command = [sys.executable, "-m", "longpole.convergence.followed", options, *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return msgspec.json.decode((folder / "followed.json").read_bytes(), type=Observed), done.stdout


TRAIN = """
import torch
from torch import nn
net = nn.Linear(6, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
{begin}
for step in range(12):
    x = torch.randn(16, 6)
    loss = (net(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 3 == 2:
        {log}
    print(loss.item().hex())
{end}
"""
TENSORBOARD = (
    "from torch.utils.tensorboard import SummaryWriter\nwriter = SummaryWriter('logs')",
    "writer.add_scalar('loss/val', loss, step); writer.add_scalars('acc', {'a': 1 / (1 + loss.item())}, step)",
    "writer.close()",
    {"loss/val", "acc/a"},
)
WANDB = (
    "import wandb\nwandb.init(mode={mode!r}, project='p', dir='.')",
    "wandb.log({{'val_loss': loss.item(), 'nested': {{'acc': 1 / (1 + loss.item())}}, 'note': 'text'}})",
    "wandb.finish()",
    {"val_loss", "acc"},
)


def hold(folder: Path, parts: tuple[str, str, str, set[str]]) -> None:
    """The logger's figures are there at their steps, with the loss's own values."""
    begin, log, end, names = parts
    (folder / "train.py").write_text(TRAIN.format(begin=begin, log=log, end=end))
    observed, stdout = followed(folder, "train.py")
    told = [float.fromhex(line) for line in stdout.splitlines() if line.startswith("0x")]
    found = {one.name: one for one in metrics_of(observed) if one.source == "logged"}
    assert set(found) == names
    for one in found.values():
        assert list(one.points.steps) == [3, 6, 9, 12]
    loss = next(one for name, one in found.items() if "loss" in name)
    assert list(loss.points.values) == told[2::3]


def test_tensorboard(tmp_path: Path) -> None:
    need("tensorboard")
    hold(tmp_path, TENSORBOARD)


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb(mode: str, tmp_path: Path) -> None:
    need("wandb")
    begin, log, end, names = WANDB
    hold(tmp_path, (begin.format(mode=mode), log.format(), end, names))


def test_transformers_trainer_logs_and_seeds(tmp_path: Path) -> None:
    """Its `set_seed` moves with longpole's, and what it logs every ten steps is read, `eval_loss` among it."""
    need("transformers")
    need("accelerate")
    words = [str(SCRIPTS / "hf_trainer.py"), "--steps", "20", "--accumulate", "1", "--eval-every", "10"]
    runs = [followed(tmp_path, *words, seed=seed)[0] for seed in (0, 1, 1)]
    losses = [run.losses[0].values for run in runs]
    assert losses[0] != losses[1]
    assert losses[1] == losses[2]
    found = {one.name: one for one in metrics_of(runs[0])}
    assert list(found["loss"].points.steps) == list(range(1, 21))
    assert list(found["eval_loss"].points.steps) == [10, 20]
    printed = found["loss (printed)"]
    assert list(printed.points.steps) == [10, 20]
    assert printed.points.values[0] == pytest.approx(sum(losses[0][:10]) / 10, rel=1e-3)
