"""What a critical path is made of: its pieces summed by sort, op class, phase, layer, name and rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.analysis.critical_pieces import Pieces
from longpole.analysis.critical_walk import Sort
from longpole.analysis.device_phases import host_phases
from longpole.analysis.device_results import PathPart
from longpole.analysis.distinct import distinct, distinct_with_inverse
from longpole.analysis.timeline import communication_rows
from longpole.cost.kernel_names import classify_kernel
from longpole.trace import DEVICE_WORK, OpClass, Phase, label

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.trace import Trace

    Named = tuple[NDArray[np.int64], Callable[[int], str]]  # a code for each piece, and what a code is called
    Namer = Callable[[int, Pieces], Named]

WORDS: Mapping[Sort, str] = {
    Sort.DEVICE: "device",
    Sort.LAUNCH: "launch",
    Sort.HOST: "host",
    Sort.GAP: "gap",
    Sort.SYNCHRONIZATION: "synchronization",
}
BETWEEN = (Sort.LAUNCH, Sort.GAP, Sort.SYNCHRONIZATION)
UNNAMED = "nothing recorded"
NO_EVENT = -100
NO_LAYER = "no layer"


@dataclass(frozen=True, slots=True)
class Columns:
    """What each row of a trace's event table belongs to; -1 is nothing. Device rows and host rows both count."""

    phase: NDArray[np.integer[Any]]  # longpole.trace.Phase
    op_class: NDArray[np.integer[Any]]  # longpole.trace.OpClass
    layer: NDArray[np.integer[Any]] | None = None  # place in `layers`
    layers: Sequence[str] = ()


def columns_of(trace: Trace) -> Columns:
    """Phases by launch and op classes by kernel names, where no better attribution is at hand."""
    events = trace.events
    phase = host_phases(trace).astype(np.int64)
    rows = events.rows_of(*DEVICE_WORK)
    launch = events.launch[rows]
    phase[rows] = np.where(launch >= 0, phase[np.maximum(launch, 0)], int(Phase.NOBODY))
    op_class = np.full(len(events), int(OpClass.HOST), dtype=np.int64)
    codes, which = distinct_with_inverse(events.name[rows])
    known = [classify_kernel(trace.text(code)) or OpClass.UNCLASSIFIED for code in codes.tolist()]
    op_class[rows] = np.array(known, dtype=np.int64)[which.reshape(-1)] if len(rows) else op_class[rows]
    op_class[communication_rows(trace)] = int(OpClass.COLLECTIVE)
    return Columns(phase, op_class)


def sums_of(pieces: Pieces, namer: Namer) -> dict[str, int]:
    """Nanoseconds by what `namer` calls each piece; it is given the pieces of one rank at a time."""
    found: dict[str, int] = {}
    for rank in distinct(pieces.rank).tolist():
        mine = pieces.rank == rank
        some = Pieces(pieces.rank[mine], pieces.sort[mine], pieces.row[mine], pieces.time_ns[mine])
        codes, texts = namer(rank, some)
        least = int(codes.min()) if len(codes) else 0
        sums = np.bincount(codes - least, weights=some.time_ns)
        for place in np.flatnonzero(sums).tolist():
            name = texts(place + least)
            found[name] = found.get(name, 0) + int(sums[place])
    return found


def parts_of(sums: Sequence[Mapping[str, int]], lengths: Sequence[int]) -> list[PathPart]:
    """Longest first: the figures of the first path, and the range of shares where there are several (ns each)."""
    names = {name for one in sums for name in one}
    found: list[PathPart] = []
    for name in names:
        shares = [one.get(name, 0) / length if length else 0.0 for one, length in zip(sums, lengths, strict=True)]
        part = PathPart(name, sums[0].get(name, 0) / 1e6, shares[0])
        if len(shares) > 1:
            part.low, part.high = min(shares), max(shares)
        found.append(part)
    return sorted(found, key=lambda part: (-part.ms, part.what))


# Codes of what is no event: -1 - Sort.
def _coded(pieces: Pieces, codes: NDArray[np.int64], *, no_events: Sequence[Sort]) -> NDArray[np.int64]:
    return np.where(np.isin(pieces.sort, no_events), -1 - pieces.sort, codes)


def _word(code: int) -> str:
    return WORDS[Sort(-1 - code)]


def by_sort(pieces: Pieces) -> Named:
    return -1 - pieces.sort, _word


def by_op_class(columns: Columns, pieces: Pieces) -> Named:
    op_class = columns.op_class[np.maximum(pieces.row, 0)].astype(np.int64)
    codes = _coded(pieces, op_class, no_events=(Sort.HOST, *BETWEEN))
    return codes, lambda code: label(OpClass(code)) if code >= 0 else _word(code)


def by_phase(columns: Columns, pieces: Pieces) -> Named:
    phase = columns.phase[np.maximum(pieces.row, 0)].astype(np.int64)
    phase = np.where(pieces.row >= 0, phase, int(Phase.NOBODY))
    phase = np.where(phase > int(Phase.NOBODY), phase, int(Phase.OTHER))
    return phase, lambda code: label(Phase(code))


def by_layer(columns: Columns, pieces: Pieces) -> Named:
    layers, layer = columns.layers, columns.layer
    if layer is None:
        return np.full(len(pieces.row), -1, dtype=np.int64), lambda _: NO_LAYER
    codes = np.where(pieces.row >= 0, layer[np.maximum(pieces.row, 0)].astype(np.int64), -1)
    return codes, lambda code: layers[code] if code >= 0 else NO_LAYER


def by_name(trace: Trace, pieces: Pieces) -> Named:
    """Work by its kernel's name, host time by its event's; the rest as it is."""
    codes = _coded(pieces, trace.events.name[np.maximum(pieces.row, 0)].astype(np.int64), no_events=BETWEEN)
    codes = np.where(pieces.row < 0, NO_EVENT, codes)
    return codes, lambda code: UNNAMED if code == NO_EVENT else trace.text(code) if code >= 0 else _word(code)


def by_rank(name: str, pieces: Pieces) -> Named:
    return np.zeros(len(pieces.row), dtype=np.int64), lambda _: name
