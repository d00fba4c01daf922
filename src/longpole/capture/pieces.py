"""What the levels gathered, as rows of the trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.capture.frames import describe
from longpole.trace.build import Piece, events_piece
from longpole.trace.kinds import Kind, NoGrad, Phase, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.capture.gradients import GradientRow
    from longpole.capture.loop import LoopFinder
    from longpole.capture.marks import Mark
    from longpole.capture.modules import Call, LayerTable, ModuleMarks
    from longpole.capture.sampler import Sample
    from longpole.trace.build import TraceBuilder


def mark_piece(
    marks: Sequence[Mark],
    calls: Sequence[Call],
    builder: TraceBuilder,
    lane: int,
    layers: LayerTable,
    modules: ModuleMarks,
) -> Piece:
    """Rows of kind PHASE and LAYER, on the training thread's lane."""
    count = len(marks) + len(calls)
    known = [(layers.row_of(module), *rest) for module, *rest in calls]
    names = [builder.intern(label(Phase(mark[0]))) for mark in marks]
    names += [builder.intern(builder_name(layers, row)) for row, *_ in known]
    starts = [mark[1] for mark in marks] + [call[1] for call in known]
    ends = [mark[2] for mark in marks] + [call[2] for call in known]
    none = [-1] * len(marks)
    columns: dict[str, Sequence[int]] = {
        "start_ns": starts,
        "duration_ns": [end - start for start, end in zip(starts, ends, strict=True)],
        "name": names,
        "kind": [Kind.PHASE] * len(marks) + [Kind.LAYER] * len(calls),
        "lane": [lane] * count,
        "correlation": [_detail(mark, modules) for mark in marks] + [-1] * len(calls),
        "layer": none + [call[0] for call in known],
        "sequence": none + [call[3] for call in known],
        "last_sequence": none + [call[4] for call in known],
    }
    return events_piece({name: np.asarray(column, dtype=np.int64) for name, column in columns.items()} if count else {})


def builder_name(layers: LayerTable, row: int) -> str:
    """A layer's name on a timeline: its path, or its type where it is the outermost."""
    if row < 0:
        return "module"
    return layers.layers[row].path or layers.layers[row].type


def _detail(mark: Mark, modules: ModuleMarks) -> int:
    phase, _, _, detail = mark
    if phase == Phase.EVALUATION:
        identity, eval_mode = detail >> 1, detail & 1
        return eval_mode | (NoGrad.TRAINED if identity in modules.trained else 0)
    return detail if phase == Phase.DATA else -1


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
