"""Runs of a script for its memory: as it is, with layers computed again, with other batches."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from longpole.analysis.memory_clock import StepClock
from longpole.analysis.memory_inside import allocator_peak, watched_step
from longpole.analysis.memory_prices import BatchPoint, Checked
from longpole.errors import LongpoleError
from longpole.trace.store import read_trace
from longpole.whatif.changes import Changes
from longpole.whatif.lives import Lives
from longpole.whatif.rerun import Request, rerun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.memory_prices import Price
    from longpole.analysis.study import Study
    from longpole.trace.trace import Trace

CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True)
class MemoryRun:
    """One run with its trace."""

    study: Study
    trace: Trace

    @property
    def peak_bytes(self) -> int | None:
        """The most that tensors hold in the step whose memory was recorded; None where none was."""
        step = watched_step(self.trace)
        if step is None or step.saved_only:
            return allocator_peak(self.trace)
        return Lives(step, self.trace.layers).peak_bytes()

    @property
    def phase_peak_bytes(self) -> dict[str, int]:
        """The most that tensors hold in each phase of that step; empty where it is not known."""
        step = watched_step(self.trace)
        if step is None or step.saved_only:
            return {}
        clock, found = StepClock(step, {}, None), dict[str, int]()
        times, held = Lives(step, self.trace.layers).base
        for time, size in zip(times.tolist(), held.tolist(), strict=True):
            phase = clock.phase_at(time)
            found[phase] = max(found.get(phase, 0), size)
        return found


def run_for_memory(target: Sequence[str], changes: Changes, steps: int) -> MemoryRun:
    """The script under `longpole run`, in a process of its own. Raises LongpoleError where it cannot be measured."""
    with tempfile.TemporaryDirectory(prefix="longpole-") as folder:
        place = Path(folder) / "run.longpole"
        options = ("--stop", "--steps", str(steps), "--trace", str(place))
        done = rerun(Request(target, changes, options))
        return MemoryRun(done.study, read_trace(place))


def check_price(target: Sequence[str], price: Price, before: MemoryRun, steps: int) -> Checked:
    """The script with these layers computed again: what was predicted beside what was measured."""
    after = run_for_memory(target, Changes(checkpoint=tuple(price.names.split(","))), steps)
    a, b = before.study.step.wall_ms, after.study.step.wall_ms
    more = None if a.median is None or b.median is None else b.median - a.median
    half = _half_width(before.study, after.study)
    return Checked(
        price.names,
        price.peak_bytes,
        after.peak_bytes,
        price.ms,
        more,
        None if more is None or half is None else more - half,
        None if more is None or half is None else more + half,
    )


def _half_width(*studies: Study) -> float | None:
    """Of the difference of two medians whose intervals are known: the root of the sum of squares."""
    walls = [study.step.wall_ms for study in studies]
    halves = [(wall.high - wall.low) / 2 for wall in walls if wall.high is not None and wall.low is not None]
    return sum(half**2 for half in halves) ** 0.5 if len(halves) == len(walls) else None


def run_batch(target: Sequence[str], batch: int, flag: str | None, steps: int) -> BatchPoint:
    """The peak at this batch: set by the script's own flag, else for the DataLoader that trains."""
    if flag is None:
        run = run_for_memory(target, Changes(batch_size=batch), steps)
    else:
        run = run_for_memory(with_flag(target, flag, batch), Changes(), steps)
    if run.peak_bytes is None:
        raise LongpoleError(f"batch {batch}: no step's memory was recorded; let the script train longer")
    return BatchPoint(batch, run.peak_bytes, run.study.step.wall_ms.median, run.phase_peak_bytes)


def with_flag(target: Sequence[str], flag: str, value: int) -> list[str]:
    """The script's arguments with this flag set anew, wherever it stood: `--batch-size 8`, `--batch-size=8`."""
    found: list[str] = []
    skip = False
    for word in target:
        if skip:
            skip = False
        elif word == flag:
            skip = True
        elif not word.startswith(f"{flag}="):
            found.append(word)
    return [*found, flag, str(value)]


def machine_budget(run: MemoryRun) -> tuple[int, str]:
    """Bytes that tensors of this script may take here: what is free now, less what its process needs beside them.

    Raises LongpoleError where they do not lie in the machine's memory.
    """
    device = run.study.run.device or "CPU"
    if not device.startswith("CPU"):
        raise LongpoleError(f"the script trains on {device}; say how many bytes it may take there: --budget 80GB")
    available = psutil.virtual_memory().available
    limits = [limit for limit in map(_limit, CONTAINER_LIMITS) if limit is not None]
    free = min([available, *limits])
    resident, peak = run.study.memory.resident_bytes, run.peak_bytes
    beside = max(resident - peak, 0) if resident is not None and peak is not None else 0
    return max(free - beside, 0), "free on this machine now, less what the process needs beside tensors"


def _limit(place: str) -> int | None:
    try:
        text = Path(place).read_text().strip()
    except OSError:
        return None
    used = psutil.Process(os.getpid()).memory_info().rss
    return int(text) - used if text.isdecimal() and int(text) < psutil.virtual_memory().total else None


def batches_round(batch: int) -> tuple[int, ...]:
    """Three batches to measure, from the script's own."""
    return (1, 2, 4) if batch < 2 else (batch // 2, batch, batch * 2)
