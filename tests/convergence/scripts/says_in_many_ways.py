"""Trains a little and tells its figures in the ways that scripts have, each under a name of its own."""

import json
import pathlib
import sys

import torch
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parent / "stand_ins"))  # loggers of these names that write nothing
from tensorboardX.writer import SummaryWriter
from wandb.sdk.wandb_run import Run

torch.manual_seed(7)
net = nn.Linear(6, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
writer, run = SummaryWriter(), Run()
kept, told = [], []
for step in range(12):
    x = torch.randn(16, 6)
    loss = (net(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    value = loss.item()
    told.append(value)
    print(f"acc: {100 / (1 + value):.6f}%")
    print(f"epoch {step} val_loss={value:.6f} lr=0.05")
    print(json.dumps({"step": step, "train_loss": value, "eval": {"f1": 1 / (1 + value)}, "seconds": 0.1}))
    print(f"| {step:4d} | critic loss: {value:9.6f} | top-1: {1 / (1 + value):.6f} |")
    print(f"\r{step:3d}%|##   | {step}/12 [00:01<00:01, 3.2it/s, bar_loss={value:.6f}]", end="", file=sys.stderr)
    kept.append(loss.detach())  # a buffer, read every fourth step
    if len(kept) == 4:
        mean = sum(torch.stack(kept).tolist()) / 4
        print(f"step {step} mean loss {mean:.6f}", file=sys.stderr)
        kept.clear()
    if step % 3 == 2:
        print(f"[{step}/12] test_loss {loss.item():.6f}", flush=True)
        writer.add_scalar("Loss/valid", loss, global_step=step)
        run.log({"wandb_loss": loss, "images": [1, 2], "nested": {"auc": 1 / (1 + value)}})
print("told", *(value.hex() for value in told))
