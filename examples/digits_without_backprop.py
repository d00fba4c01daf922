"""Trains a small MLP on scikit-learn's digits three ways, and says how long each takes to the same held-out loss.

Backpropagation, forward gradients (one slope a step, by forward mode) and two losses a step (MeZO); the rate of each is
tuned first. Seconds are those that one thread computed. A few minutes.

    python examples/digits_without_backprop.py --json race.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import torch
import torch.nn as nn
import torch.nn.functional as F
from rich.console import Console
from rich.text import Text
from sklearn.datasets import load_digits

from longpole.convergence.without_backprop_race import Problem, race
from longpole.report.converge_without import race_lines

HELD_OUT = 360


def load(batch_size: int, hidden: int, target: float) -> Problem:
    """1,437 digits to train on, 360 held out; pixels as 64 numbers from 0 to 1."""
    digits = load_digits()
    images = torch.as_tensor(digits.images, dtype=torch.float32).flatten(1) / 16.0
    labels = torch.as_tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    held_out, train = order[:HELD_OUT], order[HELD_OUT:]
    x, y = images[train], labels[train]

    def batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.randint(len(x), (batch_size,), generator=generator)
        return x[rows], y[rows]

    return Problem(
        name=f"MLP 64-{hidden}-10 on digits",
        make=lambda: nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10)),
        batch=batch,
        loss=F.cross_entropy,
        held_out=(images[held_out], labels[held_out]),
        target=target,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Race backpropagation against two ways without it.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=6.0, help="seconds a run")
    parser.add_argument("--target", type=float, default=0.5, help="held-out loss to reach")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    problem = load(args.batch_size, args.hidden, args.target)
    found = race(problem, args.seeds, args.limit, lambda line: print(line, file=sys.stderr))
    console = Console()
    for line in race_lines(found, min(console.width, 110)):
        console.print(Text.assemble(*line), soft_wrap=True, highlight=False)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))


if __name__ == "__main__":
    main()
