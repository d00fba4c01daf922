"""What the levels gathered, as rows of the trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.capture.frames import describe
from longpole.capture.marks import MARK_WIDTH
from longpole.capture.modules import CALL_WIDTH
from longpole.trace.build import Piece, events_piece
from longpole.trace.kinds import Kind, NoGrad, Phase, label

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from longpole.capture.gradients import GradientRow
    from longpole.capture.loop import LoopFinder
    from longpole.capture.modules import LayerTable, ModuleMarks
    from longpole.capture.sampler import Sample
    from longpole.trace.build import TraceBuilder


def mark_piece(marks: array[int], builder: TraceBuilder, lane: int, modules: ModuleMarks) -> Piece:
    """Rows of kind PHASE, on the training thread's lane."""
    rows = np.array(marks, dtype=np.int64).reshape(-1, MARK_WIDTH)
    if not len(rows):
        return events_piece({})
    phase, start, end, detail = rows.T
    names = np.array([builder.intern(label(found)) for found in Phase])
    return events_piece(
        {
            "start_ns": start,
            "duration_ns": end - start,
            "name": names[phase],
            "kind": np.full(len(rows), Kind.PHASE),
            "lane": np.full(len(rows), lane),
            "correlation": _details(phase, detail, modules),
        }
    )


def call_piece(calls: array[int], builder: TraceBuilder, lane: int, layers: LayerTable) -> Piece:
    """Rows of kind LAYER, on the training thread's lane."""
    if not calls:
        return events_piece({})
    modules, start, end, first, last = np.array(calls, dtype=np.int64).reshape(-1, CALL_WIDTH).T
    rows = [layers.row_of(module) for module in modules.tolist()]
    return events_piece(
        {
            "start_ns": start,
            "duration_ns": end - start,
            "name": np.array([builder.intern(builder_name(layers, row)) for row in rows]),
            "kind": np.full(len(rows), Kind.LAYER),
            "lane": np.full(len(rows), lane),
            "layer": np.array(rows),
            "sequence": first,
            "last_sequence": last,
        }
    )


def builder_name(layers: LayerTable, row: int) -> str:
    """A layer's name on a timeline: its path, or its type where it is the outermost."""
    if row < 0:
        return "module"
    return layers.layers[row].path or layers.layers[row].type


def _details(phase: NDArray[np.int64], detail: NDArray[np.int64], modules: ModuleMarks) -> NDArray[np.int64]:
    """NoGrad flags for EVALUATION, workers for DATA, -1 for the rest."""
    trained = np.isin(detail >> 1, np.array(list(modules.trained), dtype=np.int64)) * int(NoGrad.TRAINED)
    return np.where(phase == Phase.EVALUATION, detail & 1 | trained, np.where(phase == Phase.DATA, detail, -1))


def sample_piece(samples: Sequence[Sample], loop: LoopFinder, builder: TraceBuilder) -> Piece:
    """Where the training thread was, in words, and what its line of the loop is for."""
    rows: list[tuple[int, int, int, int]] = []
    for time_ns, depth, line, code, own_line in samples:
        loop_line = describe(loop.levels[depth].code, line) if depth >= 0 else ""
        phase = loop.phase_at(depth, line) or Phase.NOBODY
        rows.append((time_ns, builder.intern(loop_line), builder.intern(describe(code, own_line)), phase))
    if not rows:
        return events_piece({})
    names = ("time_ns", "loop_line", "site", "flow")
    columns: dict[str, Any] = dict(zip(names, (np.asarray(c) for c in zip(*rows, strict=True)), strict=True))
    return Piece({}, columns, {})


def gradient_piece(rows: Sequence[GradientRow], first_sequence: int, builder: TraceBuilder) -> Piece:
    """Roles of the ops inside backward, their nodes numbered from the first of the step."""
    columns: dict[str, Any] = {
        "sequence": np.asarray([row.sequence - first_sequence for row in rows], dtype=np.int64),
        "op": np.asarray([builder.intern(row.op) for row in rows], dtype=np.int32),
        "ordinal": np.asarray([row.ordinal for row in rows], dtype=np.int32),
        "role": np.asarray([row.role for row in rows], dtype=np.uint8),
        "weight_share": np.asarray([row.weight_share for row in rows], dtype=np.float64),
    }
    return Piece({}, {}, columns if rows else {})
