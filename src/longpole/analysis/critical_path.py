"""The critical path of a step over host, device and ranks, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.analysis.critical_edges import SLACK_NS, graph_of
from longpole.analysis.critical_walk import Sort, walk
from longpole.analysis.device_phases import host_phases
from longpole.analysis.device_results import CriticalPath, PathPart
from longpole.analysis.device_tree import innermost_at
from longpole.analysis.distinct import distinct, distinct_with_inverse
from longpole.analysis.ranks import names_of
from longpole.analysis.skew import waits_of
from longpole.analysis.study import Answer
from longpole.analysis.timeline import communication_rows
from longpole.cost.kernel_names import classify_kernel
from longpole.trace import DEVICE_WORK, OpClass, Phase, label

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.analysis.clock_alignment import Alignment
    from longpole.analysis.critical_edges import Graph
    from longpole.analysis.critical_walk import Path
    from longpole.trace import Trace

    Window = tuple[int, int]
    Named = tuple[NDArray[np.int64], Callable[[int], str]]  # a code for each piece, and what a code is called
    Namer = Callable[[int, "Pieces"], Named]

QUESTION = "What decides when a step ends?"
TOP = 20
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
LEAST_TOLD = 0.005  # of the path
LEAST_LAUNCHED = 0.5  # of the work in a window: with fewer launches recorded, a path over the host says nothing
LEAST_WAIT_NS = 1000  # shorter waits in collectives are not followed to another rank


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


def critical_path(trace: Trace, window: Window, columns: Columns | None = None) -> CriticalPath | None:
    """The critical path within `window` (ns on the trace's clock): one step from `rhythm.device_windows`, say.

    None for a trace without device work in the window, or where most of it has no launch and the path would be
    the host's.
    """
    return _study([trace], 0, window, [columns], {}, (0,))


def critical_path_of_ranks(
    traces: Sequence[Trace],
    rank: int,
    window: Window,
    alignment: Alignment,
    columns: Sequence[Columns | None] | None = None,
) -> CriticalPath | None:
    """The path that ends on `traces[rank]`, whose clock `window` is on: in a collective it goes on to the last rank.

    Ranks whose clocks could not be aligned are not visited.
    """
    offsets = alignment.offset_ns
    base = offsets[rank]
    if base is None:
        return critical_path(traces[rank], window, columns[rank] if columns else None)
    moved = (window[0] + base, window[1] + base)
    given = columns if columns is not None else [None] * len(traces)
    arrivals = _arrivals(traces, alignment, moved)
    return _study(traces, rank, moved, given, arrivals, [offset or 0 for offset in offsets])


def _arrivals(
    traces: Sequence[Trace], alignment: Alignment, window: Window
) -> dict[tuple[int, int], tuple[int, int, int]]:
    """For each kernel in the window that waited in a collective: the last rank, its kernel, and when that arrived."""
    rows = cache(lambda member: traces[member].events.rows_of(*DEVICE_WORK))
    found: dict[tuple[int, int], tuple[int, int, int]] = {}
    for match in alignment.matches:
        if any(alignment.offset_ns[member] is None for member in match.members):
            continue
        waits = waits_of(match, alignment, traces, [()] * len(traces))
        start = alignment.shifted(match.start_ns[:, waits.place], match.members)
        end = alignment.shifted(match.end_ns[:, waits.place], match.members)
        near = (end > window[0]) & (start <= window[1] + SLACK_NS)
        for index, column in np.argwhere(near & (waits.wait_ns > LEAST_WAIT_NS)).tolist():
            last = int(waits.last[column])
            member, other = match.members[index], match.members[last]
            mine = np.searchsorted(rows(member), match.row[index, waits.place[column]])
            theirs = np.searchsorted(rows(other), match.row[last, waits.place[column]])
            found[member, int(mine)] = (other, int(theirs), int(start[last, column]))
    return found


class Graphs(dict[int, "Graph"]):
    """The edges of each rank's trace, made for the ranks that a path visits."""

    def __init__(self, traces: Sequence[Trace], offsets: Sequence[int]) -> None:
        super().__init__()
        self._traces, self._offsets = traces, offsets

    def __missing__(self, rank: int) -> Graph:
        self[rank] = graph = graph_of(self._traces[rank], self._offsets[rank])
        return graph


def _study(
    traces: Sequence[Trace],
    rank: int,
    window: Window,
    columns: Sequence[Columns | None],
    arrivals: Mapping[tuple[int, int], tuple[int, int, int]],
    offsets: Sequence[int],
) -> CriticalPath | None:
    graphs = Graphs(traces, offsets)
    if not _inside(graphs[rank], window).any():
        return None
    paths = [walk(graphs, rank, window, arrivals, possible=True)]
    if _is_unfounded(paths[0], graphs[rank], window):
        return None
    visited = sorted(set(paths[0].rank.tolist()))
    why = sorted({text for index in visited for text in graphs[index].uncertain})
    if why:
        paths.append(walk(graphs, rank, window, arrivals, possible=False))
        visited = sorted(set(visited) | set(paths[1].rank.tolist()))
    filled = {index: columns[index] or columns_of(traces[index]) for index in visited}
    pieces = [_pieces(path, traces, graphs, offsets) for path in paths]
    return _result(paths, pieces, traces, filled, window, why)


def _is_unfounded(path: Path, graph: Graph, window: Window) -> bool:
    """Whether a path is mostly the host's where most work has no launch: what that waited for is not known."""
    launched = np.asarray(graph.launch_ns)[_inside(graph, window)] >= 0
    on_host = int(np.sum((path.end_ns - path.start_ns)[path.sort == Sort.HOST]))
    return int(launched.sum()) < LEAST_LAUNCHED * len(launched) and on_host > path.length_ns / 2


def _inside(graph: Graph, window: Window) -> NDArray[np.bool_]:
    """Which work of a graph has a part in the window."""
    return (np.asarray(graph.start_ns) < window[1]) & (np.asarray(graph.end_ns) > window[0])


@dataclass(frozen=True, slots=True)
class Pieces:
    """The path cut where the event that it belongs to changes; `row` is of the rank's table, -1 is none."""

    rank: NDArray[np.int64]
    sort: NDArray[np.int64]
    row: NDArray[np.int64]
    time_ns: NDArray[np.int64]


def _pieces(path: Path, traces: Sequence[Trace], graphs: Mapping[int, Graph], offsets: Sequence[int]) -> Pieces:
    """Device segments belong to their work, gaps and launches to the work after; host time to the innermost event."""
    time = path.end_ns - path.start_ns
    row = np.full(len(path.rank), -1, dtype=np.int64)
    parts: list[Pieces] = []
    for rank in distinct(path.rank).tolist():
        mine = np.flatnonzero((path.rank == rank) & (path.sort != Sort.HOST))
        row[mine] = graphs[rank].row[path.item[mine]]
        parts.append(Pieces(path.rank[mine], path.sort[mine], row[mine], time[mine]))
        on_host = (path.rank == rank) & (path.sort == Sort.HOST)
        for lane in distinct(path.item[on_host]).tolist():
            here = np.flatnonzero(on_host & (path.item == lane))
            low, high = path.start_ns[here] - offsets[rank], path.end_ns[here] - offsets[rank]
            found, length = _host_rows(traces[rank], lane, low[::-1], high[::-1])
            parts.append(Pieces(np.full_like(found, rank), np.full_like(found, int(Sort.HOST)), found, length))
    return (
        Pieces(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("rank", "sort", "row", "time_ns")))
        if parts
        else Pieces(*(np.empty(0, dtype=np.int64) for _ in range(4)))
    )


def _host_rows(
    trace: Trace, lane: int, low: NDArray[np.int64], high: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The innermost event of a thread, and nanoseconds, for each stretch of the sorted intervals given."""
    events = trace.events
    near = np.flatnonzero((events.lane == lane) & (events.start_ns < high[-1]) & (events.end_ns > low[0]))
    times = np.sort(np.r_[events.start_ns[near], events.end_ns[near], low, high])
    times = times[np.r_[True, times[1:] > times[:-1]]]  # np.unique of numpy 2 hashes, which takes ten times as long
    inside = np.searchsorted(low, times[:-1], side="right") > np.searchsorted(high, times[:-1], side="right")
    times, past = times[:-1][inside], times[1:][inside]
    return innermost_at(trace, lane, times), past - times


def _result(
    paths: Sequence[Path],
    pieces: Sequence[Pieces],
    traces: Sequence[Trace],
    columns: Mapping[int, Columns],
    window: Window,
    why: Sequence[str],
) -> CriticalPath:
    """Figures of the path with the possible edges, and the range of both where they differ."""

    def listed(namer: Namer) -> list[PathPart]:
        return _listed([_sums(one, namer) for one in pieces], [path.length_ns for path in paths])

    parts = listed(lambda _, p: _sorts(p))
    op_classes = listed(lambda rank, p: _op_classes(columns[rank], p))
    found = CriticalPath(
        window_ms=(window[1] - window[0]) / 1e6,
        path_ms=paths[0].length_ns / 1e6,
        sentence=_sentence(parts, op_classes),
        exact=not why,
        parts=parts,
        op_classes=op_classes,
        phases=listed(lambda rank, p: _phases(columns[rank], p)),
        ops=listed(lambda rank, p: _names(traces[rank], p))[:TOP],
        notes=_notes(paths, window, why),
    )
    if any(one.layer is not None for one in columns.values()):
        found.layers = listed(lambda rank, p: _layers(columns[rank], p))
    if len(columns) > 1:
        names = names_of(traces)
        found.ranks = listed(lambda rank, p: _ranks(f"rank {names[rank]}", p))
    return found


def _sums(pieces: Pieces, namer: Namer) -> dict[str, int]:
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


def _listed(sums: Sequence[Mapping[str, int]], lengths: Sequence[int]) -> list[PathPart]:
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
def _coded(pieces: Pieces, codes: NDArray[np.int64], *, by_sort: Sequence[Sort]) -> NDArray[np.int64]:
    return np.where(np.isin(pieces.sort, by_sort), -1 - pieces.sort, codes)


def _word(code: int) -> str:
    return WORDS[Sort(-1 - code)]


def _sorts(pieces: Pieces) -> Named:
    return -1 - pieces.sort, _word


def _op_classes(columns: Columns, pieces: Pieces) -> Named:
    op_class = columns.op_class[np.maximum(pieces.row, 0)].astype(np.int64)
    codes = _coded(pieces, op_class, by_sort=(Sort.HOST, *BETWEEN))
    return codes, lambda code: label(OpClass(code)) if code >= 0 else _word(code)


def _phases(columns: Columns, pieces: Pieces) -> Named:
    phase = columns.phase[np.maximum(pieces.row, 0)].astype(np.int64)
    phase = np.where(pieces.row >= 0, phase, int(Phase.NOBODY))
    phase = np.where(phase > int(Phase.NOBODY), phase, int(Phase.OTHER))
    return phase, lambda code: label(Phase(code))


def _layers(columns: Columns, pieces: Pieces) -> Named:
    layers, layer = columns.layers, columns.layer
    if layer is None:
        return np.full(len(pieces.row), -1, dtype=np.int64), lambda _: NO_LAYER
    codes = np.where(pieces.row >= 0, layer[np.maximum(pieces.row, 0)].astype(np.int64), -1)
    return codes, lambda code: layers[code] if code >= 0 else NO_LAYER


def _names(trace: Trace, pieces: Pieces) -> Named:
    """Work by its kernel's name, host time by its event's; the rest as it is."""
    codes = _coded(pieces, trace.events.name[np.maximum(pieces.row, 0)].astype(np.int64), by_sort=BETWEEN)
    codes = np.where(pieces.row < 0, NO_EVENT, codes)
    return codes, lambda code: UNNAMED if code == NO_EVENT else trace.text(code) if code >= 0 else _word(code)


def _ranks(name: str, pieces: Pieces) -> Named:
    return np.zeros(len(pieces.row), dtype=np.int64), lambda _: name


def _sentence(parts: Sequence[PathPart], op_classes: Sequence[PathPart]) -> str:
    """What the path is mostly, and the largest sort of work on it."""
    if not parts:
        return "The critical path is empty."
    shares = {part.what: part for part in parts}
    told = [
        f"{_share(shares[word])} {told}" for word, told in SAID if word in shares and shares[word].share >= LEAST_TOLD
    ]
    work = next((one for one in op_classes if one.what not in WORDS.values()), None)
    if work is None or max(work.share, work.high or 0.0) < LEAST_TOLD:
        return f"Of the critical path, {', '.join(told)}."
    most = f"; the largest sort of work on it is {work.what.replace('_', ' ')}, {_share(work)}"
    return f"Of the critical path, {', '.join(told)}{most}."


SAID: Sequence[tuple[str, str]] = (
    ("device", "is device work"),
    ("host", "is the host"),
    ("launch", "launches on their way"),
    ("gap", "gaps between device work"),
    ("synchronization", "waits that had ended but not returned"),
)


def answer_of(path: CriticalPath) -> Answer:
    """What decides how long the window takes?"""
    most = path.parts[0] if path.parts else None
    evidence = {"path_ms": path.path_ms, "parts": {part.what: part.share for part in path.parts}, "exact": path.exact}
    if most is None:
        return Answer(QUESTION, "not known", path.sentence, evidence)
    where = path.ranks[0] if path.ranks else None
    ranks = f" {_share(where)} of it lies on {where.what}." if where is not None else ""
    return Answer(QUESTION, "yes" if path.exact else "partly", path.sentence + ranks, evidence)


def _share(part: PathPart) -> str:
    low, high = (f"{100 * (part.share if one is None else one):.0f}" for one in (part.low, part.high))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _notes(paths: Sequence[Path], window: Window, why: Sequence[str]) -> list[str]:
    found: list[str] = []
    if why:
        found.append(
            "Bounds, not one path: " + "; ".join(why) + ". Each part is given without and with the waits that are "
            "possible; figures in milliseconds are with them."
        )
    short = (window[1] - window[0] - paths[0].length_ns) / 1e6
    if short >= 0.001:
        found.append(
            f"The path could be followed back to {short:.3f} ms after the window's start: what comes before it was "
            "launched before the recording began."
        )
    return found
