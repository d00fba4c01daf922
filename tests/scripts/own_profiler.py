"""A small transformer with a loop of its own; --profile FILE and --times FILE record it, the latter by stopwatch."""

from __future__ import annotations

import argparse
import contextlib
import json
import time

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, schedule

LENGTH, WIDTH, VOCABULARY = 64, 192, 512


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True) for _ in range(3)
        )
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--profile", metavar="FILE")
    parser.add_argument("--times", metavar="FILE")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    recorder = contextlib.nullcontext()
    if args.profile:
        recorder = profile(
            activities=[ProfilerActivity.CPU],
            schedule=schedule(wait=6, warmup=2, active=12, repeat=1),
            on_trace_ready=lambda found: found.export_chrome_trace(args.profile),
        )
    stamps: list[list[float]] = []  # of each step: begin, forward, loss, zero_grad, backward, optimizer, end
    now = time.perf_counter
    with recorder as recording:
        for _ in range(args.steps):
            stamp = [now()]
            tokens = torch.randint(0, VOCABULARY, (args.batch_size, LENGTH + 1))
            stamp.append(now())
            logits = model(tokens[:, :-1])
            stamp.append(now())
            loss = criterion(logits.flatten(0, 1), tokens[:, 1:].flatten())
            stamp.append(now())
            optimizer.zero_grad()
            stamp.append(now())
            loss.backward()
            stamp.append(now())
            optimizer.step()
            stamps.append([*stamp, now()])
            if recording is not None:
                recording.step()
    if args.times:
        with open(args.times, "w") as file:
            json.dump(stamps, file)
    print(f"loss {loss.item():.6f}")


if __name__ == "__main__":
    main()
