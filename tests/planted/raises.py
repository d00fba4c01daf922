"""A script that ends badly: --at before, inside (at step --at-step) or after the training; --how says in which way."""

from __future__ import annotations

import os
import signal
import sys

import torch
import torch.nn as nn

from planted import FEATURES, options, regression

BATCH = 64


def fail(how: str) -> None:
    if how == "error":
        raise ValueError("planted error")
    if how == "exit":
        sys.exit(3)
    if how == "interrupt" and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    os.kill(os.getpid(), {"interrupt": signal.SIGINT, "terminate": signal.SIGTERM, "kill": signal.SIGKILL}[how])


def train(model: nn.Module, steps: int, fail_at: int, how: str) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = regression(BATCH)
    for step in range(steps):
        if step == fail_at:
            fail(how)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        print(f"step {step} loss {loss.item().hex()}", flush=True)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--at", choices=["before", "inside", "after"], default="inside")
    parser.add_argument("--at-step", type=int, default=10, help="for --at inside")
    parser.add_argument("--how", choices=["error", "exit", "interrupt", "terminate", "kill"], default="error")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = nn.Sequential(nn.Linear(FEATURES, 256), nn.ReLU(), nn.Linear(256, 1))
    if args.at == "before":
        fail(args.how)
    train(model, args.steps, args.at_step if args.at == "inside" else -1, args.how)
    fail(args.how)


if __name__ == "__main__":
    main()
