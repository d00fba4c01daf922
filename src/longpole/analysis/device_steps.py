"""The turns that a study is of: steps as the device sees them, or the whole recording where there are none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_launches import Launched
from longpole.analysis.device_words import ms
from longpole.analysis.rhythm import device_windows, find_steps
from longpole.analysis.timeline import device_window
from longpole.errors import LongpoleError
from longpole.trace import DEVICE_WORK, Kind, Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from longpole.trace import StepWindow, Trace

FEW = 3  # steps: of fewer, none is left out
UNUSUAL = 1.1  # times the median: a first step longer than this was not alone on the device
BARE = 0.02  # of the events of the fullest step
FOREIGN = 0.02  # share of the first step that work of before the recording takes
MUCH_FOREIGN = 0.1  # share from which that step is not like the others, however long it took
START_UP = 3.0  # times the median of the others: a first step longer than this compiled, allocated or loaded


@dataclass(frozen=True, slots=True)
class Turn:
    """One step, ns of the trace's clock."""

    index: int
    window: tuple[int, int]

    @property
    def ms(self) -> float:
        return (self.window[1] - self.window[0]) / 1e6


@dataclass(frozen=True, slots=True)
class Turns:
    """All steps, those that the study is of, and what must be said about the choice."""

    all: list[Turn]
    kept: list[Turn]
    has_steps: bool
    notes: list[str]
    seen: int = 0  # steps that the trace marks, those too that hold no time at all


def turns_of(trace: Trace, launched: NDArray[np.uint8], step: int | None) -> Turns:
    """Steps of a trace; `launched` is each row's Launched, `step` picks one by its number.

    Raises LongpoleError where there is no such step.
    """
    steps, why = find_steps(trace)
    bare = _bare(trace, steps)
    if device_window(trace) is not None:
        steps = device_windows(trace, steps)
    found = [Turn(one.index, (one.start_ns, one.end_ns)) for one in steps if one.end_ns > one.start_ns]
    if step is not None:
        return _one(found, step, why)
    if not found:
        return Turns([_recording(trace)], [_recording(trace)], has_steps=False, notes=[why])
    deep = {one.index for one in steps if one.level == Level.OPS}
    seen = len(steps)
    if deep:  # a live run: its other steps have no device work in them
        found = [turn for turn in found if turn.index in deep]
        seen = len(found)
    recorded = [turn for turn in found if turn.index not in bare] or found
    notes = [f"{len(bare)} of {len(steps)} steps are left out: their operations were not recorded."] if bare else []
    kept, more = _without_first(trace, recorded, launched)
    return Turns(found, kept, has_steps=True, notes=[why, *notes, *more], seen=seen)


def _one(found: Sequence[Turn], step: int, why: str) -> Turns:
    chosen = [turn for turn in found if turn.index == step]
    if not chosen:
        there = f"the trace has steps {found[0].index} to {found[-1].index}" if found else "the trace has no steps"
        raise LongpoleError(f"no step {step}: {there}")
    return Turns(list(found), chosen, has_steps=True, notes=[f"Step {step} alone. {why}"], seen=len(found))


def _recording(trace: Trace) -> Turn:
    """From the first device event to the last, or of the host where there is none; of an empty trace, 1 ns."""
    window = device_window(trace)
    events = trace.events
    if window is None and len(events):
        window = int(events.start_ns.min()), int(events.end_ns.max())
    low, high = window or (0, 1)
    return Turn(-1, (low, max(high, low + 1)))


def _bare(trace: Trace, steps: Sequence[StepWindow]) -> set[int]:
    """Numbers of steps in which next to nothing was recorded: a live run times most of its steps bare.

    Empty where all are alike.
    """
    if not steps:
        return set()
    starts = trace.events.start_ns[trace.events.rows_of(Kind.OP, Kind.RUNTIME, *DEVICE_WORK)]
    low, high = (np.array(edge) for edge in zip(*((one.start_ns, one.end_ns) for one in steps), strict=True))
    counts = np.searchsorted(starts, high) - np.searchsorted(starts, low)
    bare = {one.index for one, count in zip(steps, counts.tolist(), strict=True) if count <= BARE * counts.max()}
    return bare if len(bare) < len(steps) else set()


def _without_first(trace: Trace, found: list[Turn], launched: NDArray[np.uint8]) -> tuple[list[Turn], list[str]]:
    """Leaves out a first step that started up, or in which the device still did work of before the recording."""
    first, rest = found[0], found[1:]
    rows = np.flatnonzero(launched == Launched.BEFORE)
    low, high = first.window
    inside = np.minimum(trace.events.end_ns[rows], high) - np.maximum(trace.events.start_ns[rows], low)
    foreign = int(np.maximum(inside, 0).sum()) / 1e6
    usual = float(np.median([turn.ms for turn in rest])) if rest else 0.0
    because = _why_unlike(first.ms, usual, foreign) if len(found) >= FEW else ""
    if not because:
        return found, []
    return rest, [f"Step {first.index} is left out: it took {ms(first.ms)} against {ms(usual)} of the others{because}."]


def _why_unlike(first_ms: float, usual_ms: float, foreign_ms: float) -> str:
    """Why a first step says nothing of the others; "" where it does."""
    longer = first_ms >= UNUSUAL * usual_ms and foreign_ms >= FOREIGN * first_ms
    if longer or foreign_ms >= MUCH_FOREIGN * first_ms:
        return f", for the device had {ms(foreign_ms)} of work from before the recording to do"
    return ", which is starting up" if first_ms > START_UP * usual_ms else ""


def in_common(turns: Sequence[Turns]) -> list[Turns]:
    """The same steps kept on every rank, where they are numbered alike; ranks of other numbers keep their own."""
    shared = set.intersection(*({turn.index for turn in one.kept} for one in turns))
    if not shared or not all(one.has_steps for one in turns):
        return list(turns)
    return [replace(one, kept=[turn for turn in one.kept if turn.index in shared]) for one in turns]
