"""The price list: bytes on a step written out by hand, and on networks beside a run with the layers checkpointed."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from longpole.trace.memory import ALIVE, Boundary, Owner, Saved, SavedKind, StepMemory, Storages
from longpole.trace.trace import Layer
from longpole.whatif.changes import Changes
from longpole.whatif.lives import Lives
from longpole.whatif.memory_runs import run_for_memory
from longpole.whatif.price import PriceList
from longpole.whatif.priced import price_list

if TYPE_CHECKING:
    from pathlib import Path

PARAMETERS, INPUT, KEPT, OUTPUT = 100, 8, 30, 8


def step_of_blocks(count: int) -> tuple[StepMemory, list[Layer]]:
    """A chain of equal blocks. Forward of block b at 100 (b + 1): it makes 30 bytes that it saves and 8 that it hands
    on; the next saves them as its input. Backward of block b at 1000 (count - b). 100 bytes are there anyway; the loss
    saves the last output.
    """
    storages, saved, boundary = Storages(), Saved(), Boundary()

    def make(size: int, born: int, died: int, owner: Owner = Owner.NOBODY, layer: int = -1) -> int:
        for column, value in zip(
            (storages.bytes, storages.born_ns, storages.died_ns, storages.owner, storages.layer, storages.op),
            (size, born, died, int(owner), layer, "op"),
            strict=True,
        ):
            column.append(value)  # pyright: ignore[reportArgumentType, reportUnknownMemberType]
        return len(storages.bytes) - 1

    def save(storage: int, at: int, used: int, layer: int, kind: SavedKind) -> None:
        row = (storage, storages.bytes[storage], at, used, used + 10, layer, "op", int(kind), False)
        columns = (saved.storage, saved.bytes, saved.saved_ns, saved.used_ns, saved.freed_ns, saved.layer, saved.op)
        for column, value in zip((*columns, saved.kind, saved.again), row, strict=True):
            column.append(value)  # pyright: ignore[reportArgumentType, reportUnknownMemberType]

    make(PARAMETERS, -1, ALIVE, Owner.PARAMETER)
    handed = make(INPUT, 1, 1000 * count + 10)
    for block in range(count):
        start, back = 100 * (block + 1), 1000 * (count - block)
        boundary.layer.append(block + 1)
        boundary.storage.append(handed)
        save(handed, start, back, block + 1, SavedKind.INPUT)
        kept = make(KEPT, start + 1, back + 10, layer=block + 1)
        save(kept, start + 2, back, block + 1, SavedKind.OUTPUT)
        handed = make(OUTPUT, start + 3, back - 1000 + 10 if block < count - 1 else 910, layer=block + 1)
    save(handed, 900, 900, -1, SavedKind.INPUT)
    layers = [Layer("", "Net", -1, True), *(Layer(f"blocks.{at}", "Block", 0) for at in range(count))]
    end = 1000 * count + 100
    return StepMemory(0, 0, end, 0, end, storages=storages, saved=saved, boundary=boundary), layers


def priced(count: int) -> PriceList:
    memory, layers = step_of_blocks(count)
    return PriceList(Lives(memory, layers), layers, {at + 1: 1.0 + at / 10 for at in range(count)}, 100.0)


def test_a_chain_of_blocks_by_hand() -> None:
    """At the loss: 100 + 8 + 4 x 38 = 260 bytes. Each block frees its 30 and keeps its input; blocks 0 to 2 free 90.

    All four free 90 as well: the last one's 30 are back as soon as its backward begins, with the loss's 8 gone by then
    or not. Here they are gone: 260 - 8 - 90 = 162 is the peak then, and 260 - 120 = 140 before it.
    """
    prices = priced(4)
    assert prices.peak_bytes == PARAMETERS + INPUT + 4 * (KEPT + OUTPUT) == 260
    by_names = {price.names: price for price in prices.list()}
    assert by_names["blocks.0"].freed_bytes == 30
    assert by_names["blocks.0-2"].peak_bytes == 170
    assert by_names["blocks.0-2"].ms == pytest.approx(3.3)
    assert by_names["blocks.0-2"].step_share == pytest.approx(0.033)
    assert by_names["blocks.0-3"].peak_bytes == 162


@pytest.mark.parametrize(("budget", "names"), [(260, ""), (259, "blocks.0"), (230, "blocks.0"), (229, "blocks.0-1")])
def test_the_cheapest_blocks_for_a_budget(budget: int, names: str) -> None:
    found = priced(4).fit(budget)
    assert found.price is not None
    assert (found.price.names, found.gap_ms) == (names, 0.0)
    assert found.price.peak_bytes <= budget


def test_a_budget_that_cannot_be_met_names_what_can_be() -> None:
    found = priced(4).fit(161)
    assert found.price is None
    assert found.smallest is not None
    assert found.smallest.peak_bytes == 162


def test_nothing_is_offered_where_the_peak_is_elsewhere() -> None:
    """500 bytes for a moment in the update are the peak; no block is held then."""
    memory, layers = step_of_blocks(3)
    storages = memory.storages
    for column, value in zip((storages.bytes, storages.born_ns, storages.died_ns), (500, 3050, 3060), strict=True):
        column.append(value)
    storages.owner.append(0)
    storages.layer.append(-1)
    storages.op.append("addcdiv")
    prices = PriceList(Lives(memory, layers), layers, {1: 1.0, 2: 1.0, 3: 1.0})
    assert prices.peak_bytes == PARAMETERS + 500
    assert prices.list() == []


def test_what_python_holds_on_to_is_not_freed() -> None:
    """A list of the script's keeps block 0's 30 bytes to the end of the step."""
    memory, layers = step_of_blocks(3)
    kept = memory.storages.bytes.index(KEPT)
    memory.storages.died_ns[kept] = ALIVE
    prices = PriceList(Lives(memory, layers), layers, {1: 1.0, 2: 1.0, 3: 1.0})
    assert "blocks.0" not in {price.names for price in prices.list()}


HEAD = """
import sys, torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
"""
TAIL = """
optimizer = torch.optim.AdamW(net.parameters())
for step in range(60):
    x = torch.randn(*shape)
    optimizer.zero_grad()
    loss = net(x).square().mean()
    loss.backward()
    optimizer.step()
"""
NETWORKS = {
    "mlp": """
shape = (256, 64)
net = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Dropout(0.1)) for _ in range(6)), nn.Linear(64, 4))
""",
    "conv": """
shape = (8, 8, 24, 24)
block = lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
net = nn.Sequential(*(block() for _ in range(5)), nn.Flatten(), nn.Linear(8 * 24 * 24, 4))
""",
    "transformer": """
shape = (8, 32, 32)
block = lambda: nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=True)
net = nn.Sequential(*(block() for _ in range(5)), nn.Linear(32, 4))
""",
}


CASES = (("mlp", 2), ("mlp", 4), ("conv", 2), ("transformer", 2), ("transformer", 4))
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "last"),
    [("conv", 4), *(pytest.param(name, last, marks=SLOW) for name, last in CASES)],
)
def test_bytes_are_those_of_a_run_with_these_layers_checkpointed(tmp_path: Path, name: str, last: int) -> None:
    """Within 2 %, of the peak and of what is freed."""
    script = tmp_path / "train.py"
    script.write_text(dedent(HEAD) + NETWORKS[name] + TAIL)
    prices = price_list(run_for_memory([str(script)], Changes(), 3).trace)
    blocks = {str(at) for at in range(last + 1)}
    predicted = prices.price(life for life in prices.candidates if prices.paths[life.layer] in blocks)
    assert predicted.names == f"0-{last}"
    measured = run_for_memory([str(script)], Changes(checkpoint=(predicted.names,)), 3).peak_bytes
    assert measured is not None
    freed = prices.peak_bytes - measured
    assert freed > 0.15 * prices.peak_bytes
    assert predicted.peak_bytes == pytest.approx(measured, rel=0.02)
    assert predicted.freed_bytes == pytest.approx(freed, rel=0.02)
