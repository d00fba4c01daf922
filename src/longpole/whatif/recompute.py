"""What it would take to compute a layer again: its own forward as measured, as far as it would run.

torch stops a second forward at the last tensor that backward needs. A Linear keeps its input, so the product at a
layer's end is not computed again; a softmax keeps its output, so that one is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.trace.kinds import Kind, Phase
from longpole.trace.memory import SavedKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from longpole.analysis.attribution import Attribution
    from longpole.analysis.host_times import Times
    from longpole.trace.trace import Trace
    from longpole.whatif.lives import Lives

SAVED_BEFORE = (SavedKind.INPUT, SavedKind.WEIGHT, SavedKind.WEIGHT_COPY)  # before the operation computes


@dataclass(frozen=True, slots=True)
class Overhead:
    """What checkpointing itself costs on this machine, measured: of each call, and of each tensor saved in it."""

    call_ms: float
    tensor_ms: float


def recompute_ms(
    trace: Trace, attribution: Attribution, times: Times, lives: Lives, overhead: Overhead | None
) -> Mapping[int, float]:
    """Milliseconds a step for each layer that was called in forward, by row of Trace.layers."""
    found: dict[int, float] = {}
    calls = trace.calls
    for call, row in enumerate(calls.row.tolist()):
        layer = int(calls.layer[call])
        if (
            not times.weight[row]
            or layer not in lives.layers
            or attribution.phase[row] not in (Phase.FORWARD, Phase.LOSS)
        ):
            continue
        found[layer] = found.get(layer, 0.0) + _forward_ms(trace, attribution, times, lives, row, layer)
    if overhead is None:
        return found
    return {layer: ms + _overhead_ms(lives, layer, overhead) for layer, ms in found.items()}


def _forward_ms(trace: Trace, attribution: Attribution, times: Times, lives: Lives, row: int, layer: int) -> float:
    events = trace.events
    start, end = int(events.start_ns[row]), int(events.start_ns[row] + events.duration_ns[row])
    first, last = np.searchsorted(events.start_ns, [start, end])
    here = np.arange(first, last)
    here = here[(events.lane[here] == events.lane[row]) & (attribution.step[here] == attribution.step[row])]
    cut = _stops_at(trace, attribution, lives, layer, here, end)
    return float(times.ms[here[events.start_ns[here] < cut]].sum())


def _stops_at(
    trace: Trace, attribution: Attribution, lives: Lives, layer: int, here: NDArray[np.intp], end: int
) -> int:
    """When, in a forward that lies in these rows, all that backward needs is there."""
    saved, events = lives.memory.saved, trace.events
    last = lives.layers[layer].last_row
    name = f"aten::{saved.op[last]}"
    mine = here[(attribution.layer[here] == saved.layer[last]) & (events.kind[here] == Kind.OP)]
    rows = [row for row in mine.tolist() if trace.name_of(row) == name]
    if not rows:
        return end
    row = rows[-1]
    if saved.kind[last] in SAVED_BEFORE:
        return int(events.start_ns[row])
    return int(events.start_ns[row] + events.duration_ns[row])


def _overhead_ms(lives: Lives, layer: int, overhead: Overhead) -> float:
    life = lives.layers[layer]
    return len(life.windows) * overhead.call_ms + len(life.rows) * overhead.tensor_ms
