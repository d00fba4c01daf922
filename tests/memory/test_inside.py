"""What operations hold inside of themselves: by hand, and against what a script's own profiler counts."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from longpole.analysis.memory_clock import StepClock
from longpole.analysis.memory_inside import allocator_peak, watched_step
from longpole.analysis.memory_ledger import holders_of, ledger_of, peak_of
from longpole.capture import internals
from longpole.capture.kineto import KinetoBlock
from longpole.trace.build import TraceBuilder, events_piece
from longpole.trace.kinds import Kind, Level
from longpole.trace.memory import (
    ALIVE,
    Allocations,
    Calls,
    MemoryRecord,
    Owner,
    StepMemory,
    Storages,
    check_memory,
)
from longpole.trace.trace import Lane, Layer, StepWindow
from longpole.whatif.lives import Lives

if TYPE_CHECKING:
    from pathlib import Path

    from longpole.trace.trace import Trace

MB = 1_000_000
LAYERS = (Layer("", "Net", -1), Layer("conv", "Conv2d", 0))


def step(names: list[str]) -> StepMemory:
    """A weight of 5 MB; operations end at 100, 200, …, and the first one's result, 2 MB, stays."""
    ends = [100 * (at + 1) for at in range(len(names))]
    return StepMemory(
        3,
        0,
        1000,
        0,
        1000,
        Storages(
            bytes=[5 * MB, 2 * MB],
            born_ns=[-1, 100],
            died_ns=[ALIVE, ALIVE],
            owner=[Owner.PARAMETER, Owner.NOBODY],
            layer=[-1, 1],
            op=["", names[0]],
        ),
        calls=Calls(names, ends, [1] * len(names)),
    )


def trace_of(memory: StepMemory, events: list[tuple[str, int, int]], sizes: list[tuple[int, int]]) -> Trace:
    """Operations (name, start, end) in step 2, with what the allocator did (time, bytes)."""
    builder = TraceBuilder()
    lane = builder.lane(Lane("training thread", "host"))
    builder.layers = list(LAYERS)
    builder.steps = [StepWindow(2, 10_000, 11_000, Level.OPS, 0), StepWindow(3, 11_000, 12_000, Level.GRADIENTS, 0)]
    columns = {
        "start_ns": [start for _, start, _ in events],
        "duration_ns": [end - start for _, start, end in events],
        "name": [builder.intern(name) for name, _, _ in events],
        "kind": [int(Kind.OP)] * len(events),
        "lane": [lane] * len(events),
    }
    builder.add(events_piece({name: np.array(column) for name, column in columns.items()}))
    allocations = Allocations(2, [time for time, _ in sizes], [size for _, size in sizes], is_whole=True)
    builder.memory = MemoryRecord([memory], allocations=allocations)
    check_memory(builder.memory, len(LAYERS))
    return builder.build()


CONV, RELU, EMPTY = "aten::convolution", "aten::relu", "aten::empty"
# A convolution: its result of 2 MB, with 3 MB and 1 MB of its own meanwhile, 6 MB in all.
EVENTS = [(CONV, 10_100, 10_200), (EMPTY, 10_110, 10_115), (RELU, 10_300, 10_400)]
SIZES = [
    (10_110, 3 * MB),
    (10_112, 2 * MB),
    (10_120, MB),
    (10_190, -MB),
    (10_195, -3 * MB),
    (10_310, 10),
    (10_390, -10),
]


def test_an_operations_workspace_is_in_the_peak_and_names_it() -> None:
    trace = trace_of(step([CONV, "aten::mul"]), EVENTS, SIZES)
    memory = watched_step(trace)
    assert memory is not None
    assert (memory.inside.bytes, memory.inside.op, memory.inside.layer) == ([6 * MB], [CONV], [1])
    clock = StepClock(memory, {}, None)
    ledger = ledger_of(memory, clock)
    assert ledger is not None
    # The weight, and what the convolution held inside: its result is in that, and handed over only when it ends.
    assert ledger.peak_bytes == 5 * MB + 6 * MB
    names = ["", "conv"]
    assert {(h.kind, h.bytes, h.layer) for h in holders_of(ledger, names)} == {
        ("parameters", 5 * MB, None),
        ("workspace", 6 * MB, "conv"),
    }
    peak = peak_of(ledger, memory, clock, names)
    assert (peak.layer, peak.op) == ("conv", "convolution")
    assert ledger.totals[-1] == 7 * MB
    assert Lives(memory, LAYERS).peak_bytes() == 11 * MB
    assert allocator_peak(trace) == 5 * MB + 6 * MB


def test_what_an_operation_calls_is_no_call_of_the_step() -> None:
    """`empty` runs inside of the convolution only; the step that was watched calls one by itself."""
    memory = watched_step(trace_of(step([CONV, EMPTY]), EVENTS, SIZES))
    assert memory is not None
    assert memory.inside.op == [CONV]


def test_calls_that_do_not_match_are_not_counted_and_it_is_said() -> None:
    memory = watched_step(trace_of(step([CONV, CONV]), EVENTS, SIZES))
    assert memory is not None
    assert memory.inside.bytes == []
    assert "1 operations more or less often" in memory.notes[-1]


def test_an_operation_that_only_makes_its_result_has_no_workspace() -> None:
    memory = watched_step(trace_of(step([CONV]), [(CONV, 10_100, 10_200)], [(10_110, 2 * MB)]))
    assert memory is not None
    assert memory.inside.bytes == []


def test_the_allocators_peak_is_not_known_where_the_recording_began_with_the_step() -> None:
    trace = trace_of(step([CONV]), EVENTS, SIZES)
    assert trace.memory_record is not None
    assert trace.memory_record.allocations is not None
    trace.memory_record.allocations.is_whole = False
    assert allocator_peak(trace) is None


@pytest.mark.parametrize("broken", [Allocations(0, [1], []), Allocations(-1, [], []), Allocations(0, [1], [1 << 62])])
def test_damaged_allocations_are_refused(broken: Allocations) -> None:
    with pytest.raises(ValueError, match=r"memory|allocations"):
        check_memory(MemoryRecord(allocations=broken), 0)


SCRIPT = """
import time, torch
from torch import nn
from torch.autograd.profiler import profile
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
                    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
optimizer = torch.optim.SGD(net.parameters(), 0.01)
x = torch.randn(8, 16, 24, 24)
def turn():
    optimizer.zero_grad()
    net(x).square().mean().backward()
    optimizer.step()
for step in range(45):
    turn()
with profile(use_cpu=True, profile_memory=True, use_kineto=True) as recorded:
    turn()
    start = time.time_ns()
    turn()
held = before = most = 0
for at, size in sorted((e.start_ns(), e.nbytes()) for e in recorded.kineto_results.events() if e.name() == "[memory]"):
    held += size
    before = held if at < start else before
    most = max(most, held) if at >= start else most
print(most - before)
"""


def test_the_rise_of_a_conv_nets_step_is_what_its_own_profiler_counts(tmp_path: Path) -> None:
    script = tmp_path / "conv.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "longpole", "run", "--steps", "12", "--warmup", "2", "--no-save", "-q"]
    done = subprocess.run([*command, "--json", "s.json", str(script)], cwd=tmp_path, capture_output=True, check=True)
    memory = json.loads((tmp_path / "s.json").read_text())["memory"]
    held = memory["timeline"]["bytes"]
    rise = memory["peak_bytes"] - sum(column[0] for column in held.values())
    assert rise == pytest.approx(int(done.stdout), rel=0.02)
    assert max(held["workspace"]) > 0
    assert memory["measured_peak_bytes"] == pytest.approx(memory["peak_bytes"], rel=0.02)


def test_frees_of_what_is_older_than_the_recording_warn_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    """torch's allocator prints a line for them; the level from which on it does is as before afterwards."""
    level = internals.log_level()
    if level is None:
        pytest.skip("this build of torch does not show from which level on it logs")
    before, older, block = level.value, torch.empty(100), KinetoBlock()
    assert block.start()
    del older
    mine = torch.empty(1000)
    block.read(block.stop(), TraceBuilder(), 0)
    assert mine.nbytes in [size for _, size in block.allocations]
    assert "CPUAllocator" not in capfd.readouterr().err
    assert level.value == before
