"""The ledger of memory over one step: parts that sum, a peak that the allocator confirms, lives made up by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd.profiler import profile

from longpole.analysis.memory_clock import StepClock
from longpole.analysis.memory_ledger import MOST_POINTS, holders_of, ledger_of, peak_of, timeline_of
from longpole.analysis.memory_results import HOLDERS
from longpole.analysis.memory_saved import held_storages, parts_of, saved_by_layer
from longpole.trace.kinds import Phase
from longpole.trace.memory import (
    ALIVE,
    Boundary,
    MemoryRecord,
    Owner,
    Saved,
    SavedKind,
    StepMemory,
    Storages,
    check_memory,
)
from memory.nets import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from memory.nets import Watched


def step_of(
    storages: Storages, saved: Saved | None = None, marks: list[tuple[int, int, int]] | None = None
) -> StepMemory:
    return StepMemory(0, 0, 1000, 0, 1000, storages, saved or Saved(), marks=marks or [])


# -- by hand ---------------------------------------------------------------------------------------------------

FORWARD, BACKWARD = (int(Phase.FORWARD), 100, 400), (int(Phase.BACKWARD), 500, 900)
BY_HAND = step_of(
    Storages(
        bytes=[1000, 40, 300, 200, 1000],
        born_ns=[-1, 50, 150, 200, 600],
        died_ns=[ALIVE, 950, 700, 260, ALIVE],
        owner=[Owner.PARAMETER, Owner.NOBODY, Owner.NOBODY, Owner.NOBODY, Owner.GRADIENT],
        layer=[-1, -1, 0, 1, 0],
        op=["", "aten::stack", "aten::addmm", "aten::relu", "aten::mm"],
    ),
    Saved(
        storage=[2],
        bytes=[300],
        saved_ns=[180],
        used_ns=[620],
        freed_ns=[640],
        layer=[1],
        op=["relu"],
        kind=[SavedKind.INPUT],
        again=[False],
    ),
    [FORWARD, BACKWARD],
)


def test_the_peak_of_a_step_made_by_hand() -> None:
    clock = StepClock(BY_HAND, {}, None)
    ledger = ledger_of(BY_HAND, clock)
    assert ledger is not None
    # The weight, the batch, the activation that waits for backward, and the gradient that has just been made.
    assert ledger.peak_bytes == 1000 + 40 + 300 + 1000
    peak = peak_of(ledger, BY_HAND, clock, ["a", "b"])
    assert (peak.phase, peak.layer, peak.op) == ("backward", "a", "mm")
    assert [(h.kind, h.bytes, h.layer) for h in holders_of(ledger, ["a", "b"])] == [
        ("gradients", 1000, "a"),
        ("parameters", 1000, None),
        ("saved", 300, "b"),
        ("inputs", 40, None),
    ]


def test_a_storage_is_saved_only_while_it_waits() -> None:
    ledger = ledger_of(BY_HAND, StepClock(BY_HAND, {}, None))
    assert ledger is not None
    saved = dict(zip(ledger.times_ns.tolist(), ledger.held[:, HOLDERS.index("saved")].tolist(), strict=True))
    temporary = dict(zip(ledger.times_ns.tolist(), ledger.held[:, HOLDERS.index("temporaries")].tolist(), strict=True))
    assert (saved[150], saved[180], saved[600], saved[640]) == (0, 300, 300, 0)
    assert (temporary[150], temporary[200], temporary[260], temporary[640], temporary[700]) == (300, 200, 0, 300, 0)


def test_phases_are_stretched_to_their_true_length() -> None:
    clock = StepClock(BY_HAND, {"forward": 3.0, "backward": 6.0}, 10.0)
    # 300 ns unmarked share the millisecond that the phases leave: 100 before, 100 between, 100 after.
    assert clock.ms([0, 100, 400, 500, 900, 1000]) == pytest.approx([0, 1 / 3, 10 / 3, 11 / 3, 29 / 3, 10])
    assert [clock.phase_at(time) for time in (0, 100, 450, 899, 950)] == [
        "data",
        "forward",
        "loss",
        "backward",
        "other",
    ]


def test_held_from_saved_to_used() -> None:
    clock = StepClock(BY_HAND, {"forward": 3.0, "backward": 4.0}, 10.0)
    held = held_storages(BY_HAND, clock)
    assert list(held) == [2]
    assert held[2].bytes == 300
    start, end = clock.ms([180, 620])
    assert parts_of(list(held.values()))[0].held_ms == pytest.approx(end - start)


# -- by chance -------------------------------------------------------------------------------------------------


@st.composite
def lives(draw: st.DrawFn) -> StepMemory:
    count = draw(st.integers(1, 12))
    born = [draw(st.integers(-1, 999)) for _ in range(count)]
    died = [draw(st.one_of(st.just(ALIVE), st.integers(max(b, 0), 1000))) for b in born]
    storages = Storages(
        bytes=[draw(st.integers(1, 10**9)) for _ in range(count)],
        born_ns=born,
        died_ns=died,
        owner=[int(draw(st.sampled_from(Owner))) for _ in range(count)],
        layer=[draw(st.integers(-1, 3)) for _ in range(count)],
        op=["aten::mm"] * count,
    )
    rows = draw(st.lists(st.integers(0, count - 1), max_size=10))
    spans = [sorted((draw(st.integers(0, 1000)), draw(st.integers(0, 1000)))) for _ in rows]
    saved = Saved(
        storage=rows,
        bytes=[storages.bytes[row] for row in rows],
        saved_ns=[start for start, _ in spans],
        used_ns=[draw(st.sampled_from([-1, end])) for _, end in spans],
        freed_ns=[draw(st.sampled_from([ALIVE, end])) for _, end in spans],
        layer=[draw(st.integers(-1, 3)) for _ in rows],
        op=["mm"] * len(rows),
        kind=[int(draw(st.sampled_from(SavedKind))) for _ in rows],
        again=[draw(st.booleans()) for _ in rows],
    )
    bounds = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, count - 1)), max_size=6))
    marks = draw(st.sampled_from([[], [FORWARD], [FORWARD, BACKWARD]]))
    step = step_of(storages, saved, marks)
    step.boundary = Boundary([layer for layer, _ in bounds], [storage for _, storage in bounds])
    return step


@given(lives())
def test_holders_sum_to_what_is_alive(step: StepMemory) -> None:
    check_memory(MemoryRecord([step]), 4)
    clock = StepClock(step, {}, None)
    ledger = ledger_of(step, clock)
    if ledger is None:
        return
    storages = step.storages
    for time, total in zip(ledger.times_ns.tolist(), ledger.totals.tolist(), strict=True):
        alive = [
            size
            for size, born, died in zip(storages.bytes, storages.born_ns, storages.died_ns, strict=True)
            if max(born, 0) <= time < died
        ]
        assert total == sum(alive)
    assert sum(holder.bytes for holder in holders_of(ledger, list("abcd"))) == ledger.peak_bytes
    timeline = timeline_of(ledger, step, clock)
    assert len(timeline.ms) <= MOST_POINTS + 1
    assert timeline.ms == sorted(timeline.ms)
    assert max(map(sum, zip(*timeline.bytes.values(), strict=True)), default=0) == ledger.peak_bytes


@given(lives())
def test_freed_and_boundary_never_exceed_what_there_is(step: StepMemory) -> None:
    held = held_storages(step, StepClock(step, {}, None))
    parents = [-1, 0, 0, 2]
    found = {row.layer: row for row in saved_by_layer(step, held, parents, {0, 1, 2, 3})}
    for row in found.values():
        assert 0 <= row.freed_bytes <= row.bytes <= sum(one.bytes for one in held.values())
        assert 0 <= row.boundary_new_bytes <= row.boundary_bytes
    if 2 in found and 3 in found:
        assert found[3].bytes <= found[2].bytes


@given(lives(), st.data())
def test_a_damaged_record_is_refused(step: StepMemory, data: st.DataObject) -> None:
    broken = msgspec.convert(msgspec.to_builtins(step), StepMemory)
    fault = data.draw(st.integers(0, 4))
    if fault == 0:
        broken.storages.bytes.append(3)
    elif fault == 1:
        broken.storages.bytes[0] = -1
    elif fault == 2:
        broken.storages.layer[0] = 4
    elif fault == 3:
        broken.boundary = Boundary([0], [len(broken.storages.bytes)])
    else:
        broken.marks = [(99, 0, 1)]
    with pytest.raises(ValueError, match=r"memory|bytes"):
        check_memory(MemoryRecord([broken]), 4)


# -- against the allocator's own count -------------------------------------------------------------------------


def allocated_above_start(turn: Callable[[], None]) -> int:
    """Bytes that the allocator handed out at most, above those at the start of a step: Kineto's memory events.

    The first of two steps is not counted: what it frees was allocated before the recording, and is not told.
    """
    recorded = profile(use_cpu=True, profile_memory=True, use_kineto=True)
    with recorded:
        turn()
        before = _events_so_far()
        turn()
    events = [(e.start_ns(), e.nbytes()) for e in recorded.kineto_results.events() if e.name() == "[memory]"]
    in_use = start = peak = 0
    for time, size in sorted(events):
        in_use += size
        if time < before:
            start = peak = in_use
        peak = max(peak, in_use)
    return peak - start


def _events_so_far() -> int:
    import time

    return time.time_ns()


def trainer(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss_of: Callable[[], torch.Tensor]
) -> Callable[[], None]:
    def turn() -> None:
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()

    return turn


def peaks(model: nn.Module, turn: Callable[[], None]) -> tuple[int, int]:
    """The ledger's peak, and the allocator's with what was there at the start of the step."""
    for _ in range(2):
        turn()
    found: Watched = watch(model, turn)
    ledger = ledger_of(found.memory, StepClock(found.memory, {}, None))
    assert ledger is not None
    storages = found.memory.storages
    start = sum(size for size, born in zip(storages.bytes, storages.born_ns, strict=True) if born < 0)
    return ledger.peak_bytes, start + allocated_above_start(turn)


def mlp() -> tuple[nn.Module, Callable[[], None]]:
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    x, y = torch.randn(128, 256), torch.randint(10, (128,))
    return model, trainer(model, torch.optim.Adam(model.parameters()), lambda: F.cross_entropy(model(x), y))


def gpt() -> tuple[nn.Module, Callable[[], None]]:
    from examples import char_gpt

    model = char_gpt.GPT(2, 6, 192, 64)
    x, y = torch.randint(256, (4, 64)), torch.randint(256, (4, 64))
    return model, trainer(model, torch.optim.AdamW(model.parameters()), lambda: char_gpt.loss_of(model, x, y))


def cnn() -> tuple[nn.Module, Callable[[], None]]:
    from examples import digits_cnn

    model = digits_cnn.DigitNet(16)
    x, y = torch.randn(32, 1, 32, 32), torch.randint(10, (32,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return model, trainer(model, optimizer, lambda: F.cross_entropy(model(x), y))


@pytest.mark.parametrize("network", [mlp, gpt, cnn])
def test_the_peak_is_the_allocators_within_two_percent(
    network: Callable[[], tuple[nn.Module, Callable[[], None]]],
) -> None:
    torch.manual_seed(0)
    predicted, measured = peaks(*network())
    assert predicted == pytest.approx(measured, rel=0.02)
