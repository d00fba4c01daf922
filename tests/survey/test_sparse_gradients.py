"""Networks with sparse gradients are measured to the end: AccumulateGrad makes storages there, and has no number."""

from __future__ import annotations

import torch
from torch import nn

import longpole


def test_sparse_embeddings_are_measured_to_the_end_of_the_window() -> None:
    torch.manual_seed(0)
    table = nn.EmbeddingBag(50, 4, mode="sum", sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), 0.1)
    with longpole.record(steps=2, warmup=1) as recording:
        for _ in range(16):
            optimizer.zero_grad()
            table(torch.randint(50, (8, 3))).square().mean().backward()
            optimizer.step()
    study = recording.study()
    assert not [warning for warning in study.run.warnings if "stopped early" in warning]
    assert study.run.steps.measured >= 2
    assert study.memory.saved_bytes is not None
