"""The critical path of a step over host, device and ranks, and what it is made of."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.critical_edges import SLACK_NS, graph_of
from longpole.analysis.critical_parts import (
    by_layer,
    by_name,
    by_op_class,
    by_phase,
    by_rank,
    by_sort,
    columns_of,
    parts_of,
    sums_of,
)
from longpole.analysis.critical_pieces import pieces_of
from longpole.analysis.critical_walk import Sort, walk
from longpole.analysis.critical_words import notes_of, sentence_of
from longpole.analysis.device_results import CriticalPath, PathPart
from longpole.analysis.ranks import names_of
from longpole.analysis.skew import waits_of
from longpole.trace import DEVICE_WORK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.analysis.clock_alignment import Alignment
    from longpole.analysis.critical_edges import Graph
    from longpole.analysis.critical_parts import Columns, Namer
    from longpole.analysis.critical_pieces import Pieces
    from longpole.analysis.critical_walk import Path
    from longpole.trace import Trace

    Window = tuple[int, int]

TOP = 20
LEAST_LAUNCHED = 0.5  # of the work in a window: with fewer launches recorded, a path over the host says nothing
LEAST_WAIT_NS = 1000  # shorter waits in collectives are not followed to another rank


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
    pieces = [pieces_of(path, traces, graphs, offsets) for path in paths]
    return _result(paths, pieces, traces, filled, window, why)


def _is_unfounded(path: Path, graph: Graph, window: Window) -> bool:
    """Whether a path is mostly the host's where most work has no launch: what that waited for is not known."""
    launched = np.asarray(graph.launch_ns)[_inside(graph, window)] >= 0
    on_host = int(np.sum((path.end_ns - path.start_ns)[path.sort == Sort.HOST]))
    return int(launched.sum()) < LEAST_LAUNCHED * len(launched) and on_host > path.length_ns / 2


def _inside(graph: Graph, window: Window) -> NDArray[np.bool_]:
    """Which work of a graph has a part in the window."""
    return (np.asarray(graph.start_ns) < window[1]) & (np.asarray(graph.end_ns) > window[0])


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
        return parts_of([sums_of(one, namer) for one in pieces], [path.length_ns for path in paths])

    parts = listed(lambda _, p: by_sort(p))
    op_classes = listed(lambda rank, p: by_op_class(columns[rank], p))
    found = CriticalPath(
        window_ms=(window[1] - window[0]) / 1e6,
        path_ms=paths[0].length_ns / 1e6,
        sentence=sentence_of(parts, op_classes),
        exact=not why,
        parts=parts,
        op_classes=op_classes,
        phases=listed(lambda rank, p: by_phase(columns[rank], p)),
        ops=listed(lambda rank, p: by_name(traces[rank], p))[:TOP],
        notes=notes_of(paths, window, why),
    )
    if any(one.layer is not None for one in columns.values()):
        found.layers = listed(lambda rank, p: by_layer(columns[rank], p))
    if len(columns) > 1:
        names = names_of(traces)
        found.ranks = listed(lambda rank, p: by_rank(f"rank {names[rank]}", p))
    return found
