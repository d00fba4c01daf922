"""One rank by itself: everything that needs no other rank, so that ranks can be studied by processes of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from longpole.analysis.communication import collective_kernels, communication_times
from longpole.analysis.device_attribution import attribute
from longpole.analysis.device_gap_table import gap_table
from longpole.analysis.device_gaps import find_gaps
from longpole.analysis.device_parts import Whole, communication_total, parts_of
from longpole.analysis.device_steps import turns_of
from longpole.analysis.device_timelines import timelines
from longpole.analysis.rank_alone import alone_of
from longpole.analysis.study import Rank, RankStep
from longpole.analysis.timeline import device_window, timeline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from longpole.analysis.device_attribution import Attribution
    from longpole.analysis.device_exclusive import Pieces
    from longpole.analysis.device_gaps import Gaps
    from longpole.analysis.device_results import CommunicationTime
    from longpole.analysis.device_steps import Turns
    from longpole.analysis.rank_alone import Alone
    from longpole.trace import Trace


@dataclass(frozen=True, slots=True)
class Marks:
    """What is kept of an Attribution: what comparing ranks and the critical path need. One entry a row."""

    phase: NDArray[np.int8]
    host_phase: NDArray[np.int8]
    op_class: NDArray[np.uint8]
    layer: NDArray[np.int32]
    layers: list[str]
    layer_types: list[str]
    why_no_layers: str


@dataclass(frozen=True, slots=True)
class OneRank:
    """What is known of one trace before ranks are put together."""

    trace: Trace
    turns: Turns
    marks: Marks
    whole: Whole
    rank: Rank
    communication: list[CommunicationTime]
    alone: Alone | None = None  # for comparing it with others, where there are any


@dataclass(frozen=True, slots=True)
class Attributed:
    """A trace half studied: where its events belong, and its steps."""

    trace: Trace
    pieces: Pieces
    found: Attribution
    turns: Turns
    marks: Marks


def one_rank(trace: Trace, step: int | None = None) -> OneRank:
    """Studies a trace, one of several; `step` (as it numbers it) narrows it to one step.

    Raises LongpoleError where there is no such step.
    """
    collectives = collective_kernels(trace)
    one = measured(attributed(trace, step), communication_times(trace, collectives))
    return replace(one, alone=alone_of(trace, collectives, one.rank.timeline))


def at_other_turns(one: OneRank, turns: Turns) -> OneRank:
    """The same rank studied over other steps."""
    return replace(measured(attributed(one.trace, turns=turns), one.communication), alone=one.alone)


def attributed(trace: Trace, step: int | None = None, turns: Turns | None = None) -> Attributed:
    """The first half of `one_rank`; `turns` are the steps where known."""
    pieces, found = attribute(trace)
    turns = turns if turns is not None else turns_of(trace, found.launched, step)
    return Attributed(trace, pieces, found, turns, _kept(found))


def measured(half: Attributed, communication: list[CommunicationTime]) -> OneRank:
    """The second half."""
    trace, pieces, found, turns = half.trace, half.pieces, half.found, half.turns
    windows = [turn.window for turn in turns.kept]
    whole_window = device_window(trace)
    gaps = None
    if whole_window is not None:
        low = min(whole_window[0], *(low for low, _ in windows))
        high = max(whole_window[1], *(high for _, high in windows))
        gaps = find_gaps(trace, pieces, found.host_phase, low, high)
    whole = Whole(
        parts=parts_of(trace, pieces, found, windows, gaps),
        step_ms=sum(high - low for low, high in windows) / len(windows) / 1e6,
        communication_ms=communication_total(pieces, windows) if gaps is not None else 0.0,
        has_device=gaps is not None,
    )
    rank = _rank(trace, turns, pieces, found, gaps)
    return OneRank(trace, turns, half.marks, whole, rank, communication)


def _kept(found: Attribution) -> Marks:
    return Marks(
        phase=found.phase,
        host_phase=found.host_phase,
        op_class=found.op_class,
        layer=found.layer,
        layers=found.layers,
        layer_types=found.layer_types,
        why_no_layers=found.why_no_layers,
    )


def _rank(trace: Trace, turns: Turns, pieces: Pieces, found: Attribution, gaps: Gaps | None) -> Rank:
    steps = turns.all if turns.has_steps else []
    lines = timelines(pieces, [turn.window for turn in steps]) if gaps is not None else [None] * len(steps)
    return Rank(
        rank=trace.info.rank,
        device=trace.info.device,
        timeline=timeline(trace),
        steps=[RankStep(turn.index, turn.ms, line) for turn, line in zip(steps, lines, strict=True)],
        gaps=gap_table(trace, found, gaps) if gaps is not None else [],
        note="" if pieces.row.size else "Nothing was recorded on this rank.",
    )
