"""Waiting for other ranks at the end of backward, which no mark shows: DistributedDataParallel waits in C++."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.attribution import ENGINE
from longpole.trace import Kind, Phase, Role

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.analysis.attribution import Attribution
    from longpole.analysis.ledger import Ledger
    from longpole.trace import Trace

COLLECTIVE = "c10d::"  # the ops that torch.distributed's collectives are


def with_waiting(trace: Trace, attribution: Attribution) -> tuple[Attribution, float]:
    """The attribution with waits given to the collective that was begun last, and their share of backward.

    A wait is what backward takes after its last autograd node, in no op, where a collective was begun in it. It is
    measured on steps whose ops are recorded, where compute takes a little longer than it does otherwise: other
    ranks are as late.
    """
    rows = attribution.rows[attribution.phase[attribution.rows] == Phase.BACKWARD]
    marks = rows[trace.events.kind[rows] == Kind.PHASE]
    own_ns, phase = attribution.own_ns.copy(), attribution.phase.copy()
    layer, role, share = attribution.layer.copy(), attribution.role.copy(), attribution.weight_share.copy()
    waited = 0
    for mark in marks.tolist():
        collective, wait_ns = _wait(trace, rows, mark)
        wait_ns = min(wait_ns, int(own_ns[mark]))
        if collective < 0 or wait_ns <= 0:
            continue
        own_ns[mark] -= wait_ns
        own_ns[collective] += wait_ns
        phase[collective], layer[collective], role[collective] = Phase.COMMUNICATION, -1, Role.NONE
        share[collective] = np.nan
        waited += wait_ns
    if not waited:
        return attribution, 0.0
    found = replace(attribution, own_ns=own_ns, phase=phase, layer=layer, role=role, weight_share=share)
    return found, waited / float(attribution.own_ns[rows].sum())


def with_communication(ledger: Ledger, share: float) -> Ledger:
    """The ledger with this part of backward given to communication."""
    if not share:
        return ledger
    phase_ms = ledger.phase_ms.copy()
    moved = phase_ms[:, Phase.BACKWARD] * share
    phase_ms[:, Phase.BACKWARD] -= moved
    phase_ms[:, Phase.COMMUNICATION] += moved
    return replace(ledger, phase_ms=phase_ms)


def _wait(trace: Trace, rows: NDArray[np.intp], mark: int) -> tuple[int, int]:
    """The row of the collective begun last in this mark of backward, -1 for none, and the nanoseconds waited."""
    events = trace.events
    end_ns = events.start_ns + events.duration_ns
    inside = rows[(events.start_ns[rows] >= events.start_ns[mark]) & (end_ns[rows] <= end_ns[mark]) & (rows != mark)]
    names = [trace.name_of(row) for row in inside.tolist()]
    collectives = [row for row, name in zip(inside.tolist(), names, strict=True) if name.startswith(COLLECTIVE)]
    nodes = [row for row, name in zip(inside.tolist(), names, strict=True) if name.startswith(ENGINE)]
    if not collectives or not nodes:
        return -1, 0
    last_ns = int(end_ns[nodes].max())
    after = inside[(events.parent[inside] == mark) & (events.start_ns[inside] >= last_ns)]
    return collectives[-1], int(end_ns[mark]) - last_ns - int(events.duration_ns[after].sum())
