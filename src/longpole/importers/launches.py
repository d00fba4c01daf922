"""Which host call started each device event: by correlation id, by arrow, by external id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.trace import DEVICE_WORK, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from longpole.importers.kineto_marks import Flows

CLOCKS_DIFFER_NS = 100_000  # between host and device, as recorded; traces show up to tens of microseconds


def launches(columns: Mapping[str, NDArray[Any]], flows: Flows | None) -> NDArray[np.int32]:
    """For each row the row of the host call that started it; -1 for host events and where nothing says."""
    kind = columns["kind"]
    found = np.full(len(kind), -1, dtype=np.int32)
    device = np.flatnonzero(np.isin(kind, (*DEVICE_WORK, Kind.SYNC)))
    calls = np.flatnonzero(kind == Kind.RUNTIME)
    found[device] = by_number(columns["correlation"], columns["start_ns"], device, calls)
    if flows is not None and flows.starts:
        lost = device[found[device] < 0]
        found[lost] = _by_arrow(columns, flows, lost)
    lost = device[found[device] < 0]
    ops = np.flatnonzero(kind == Kind.OP)
    by_external = by_number(columns["external"], columns["start_ns"], lost, ops)
    # External ids repeat where profilers restart counting: an op that begins after the work did not start it.
    late = columns["start_ns"][by_external] > columns["start_ns"][lost] + CLOCKS_DIFFER_NS
    found[lost] = np.where(late & (by_external >= 0), -1, by_external)
    return found


def by_number(
    number: NDArray[np.int64], start_ns: NDArray[np.int64], rows: NDArray[np.intp], among: NDArray[np.intp]
) -> NDArray[np.int64]:
    """For each of `rows` the last of `among` with the same number that starts no later, else the first with it.

    Numbers below 1 are no numbers (Kineto writes 0 for none). Ids may repeat: profilers restart counting.
    """
    found = np.full(len(rows), -1, dtype=np.int64)
    among = among[number[among] > 0]
    if not len(among) or not len(rows):
        return found
    among = among[np.lexsort((start_ns[among], number[among]))]
    first = np.searchsorted(number[among], number[rows], side="left")
    past = np.searchsorted(number[among], number[rows], side="right")
    present = (past > first) & (number[rows] > 0)
    choice = first.copy()
    for index in np.flatnonzero(present & (past > first + 1)).tolist():
        starts = start_ns[among[first[index] : past[index]]]
        earlier = int(np.searchsorted(starts, start_ns[rows[index]], side="right"))
        choice[index] += max(earlier - 1, 0)
    found[present] = among[choice[present]]
    return found


def _by_arrow(columns: Mapping[str, NDArray[Any]], flows: Flows, rows: NDArray[np.intp]) -> NDArray[np.int64]:
    """By a flow arrow that ends where a device event starts, and starts where or within a host call."""
    arrives = {(lane, time): flows.starts[name] for name, lane, time in flows.finishes if name in flows.starts}
    host = np.flatnonzero(np.isin(columns["kind"], (Kind.RUNTIME, Kind.OP)))
    calls = {
        (int(columns["lane"][row]), int(columns["start_ns"][row])): int(row)
        for row in host[np.argsort(-columns["duration_ns"][host], kind="stable")]
    }
    found = np.full(len(rows), -1, dtype=np.int64)
    for index, row in enumerate(rows.tolist()):
        origin = arrives.get((int(columns["lane"][row]), int(columns["start_ns"][row])))
        if origin is not None:
            found[index] = calls.get(origin, -1)
    return found


def sequence_from_arrows(columns: dict[str, NDArray[Any]], flows: Flows) -> None:
    """Gives forward and backward ops joined by an arrow a common sequence number, where no op has one."""
    ops = np.flatnonzero(columns["kind"] == Kind.OP)
    if not flows.starts or np.any(columns["sequence"][ops] >= 0):
        return
    order = ops[np.argsort(-columns["duration_ns"][ops], kind="stable")]
    at = {(int(columns["lane"][row]), int(columns["start_ns"][row])): int(row) for row in order}
    for number, (name, lane, time) in enumerate(flows.finishes):
        backward, forward = at.get((lane, time)), at.get(flows.starts.get(name, (-1, -1)))
        if backward is not None and forward is not None:
            columns["sequence"][[backward, forward]] = number
