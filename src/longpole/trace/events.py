"""The centre: one columnar table of events, an array a column.

A selection is an array of row numbers, never a smaller table, so that `parent` and `launch` stay valid.
What was recorded is here; what analysis concludes (step, phase, layer, role, op class) is a table of its
own, `longpole.analysis.attribution.Attribution`, with as many rows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

NOT_KNOWN = -1


@dataclass(frozen=True, slots=True)
class EventTable:
    """Events sorted by start, longest first among equals; every array has the same length.

    Integers that point somewhere hold -1 where there is nothing to point at.
    """

    start_ns: NDArray[np.int64]  # on the trace's own clock; only differences mean anything
    duration_ns: NDArray[np.int64]  # never negative: importers clip and count what they clipped
    name: NDArray[np.int32]  # row of Trace.strings
    kind: NDArray[np.uint8]  # longpole.trace.kinds.Kind
    lane: NDArray[np.int32]  # row of Trace.lanes
    parent: NDArray[np.int32]  # row of the innermost event round this one on its lane
    launch: NDArray[np.int32]  # device events: row of the host call that started it
    correlation: NDArray[np.int64]  # joins runtime calls and device events; ops: the external id
    sequence: NDArray[np.int64]  # autograd sequence number; backward carries that of its forward
    forward_thread: NDArray[np.int32]  # backward ops: the autograd thread id whose sequence numbers count
    shapes: NDArray[np.int32]  # row of Trace.strings: input shapes as JSON
    concrete: NDArray[np.int32]  # row of Trace.strings: values of inputs that are no tensors, as JSON
    bytes_moved: NDArray[np.int64]  # copies and collectives, where the trace says
    dtypes: NDArray[np.int32]  # row of Trace.strings: input types as JSON, beside `shapes`
    stack: NDArray[np.int32]  # row of Trace.strings: call stack or module path that the recorder wrote on an op

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def end_ns(self) -> NDArray[np.int64]:
        return self.start_ns + self.duration_ns

    def rows_of(self, *kinds: int) -> NDArray[np.intp]:
        """Row numbers of the events of these kinds, in table order."""
        return np.flatnonzero(self.mask_of(*kinds))

    def mask_of(self, *kinds: int) -> NDArray[np.bool_]:
        """Whether each event is of one of these kinds."""
        found = np.zeros(len(self.kind), dtype=np.bool_)
        for kind in kinds:  # comparing bytes is many times as fast as np.isin
            found |= self.kind == np.uint8(kind)
        return found

    def columns(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for field in fields(self):
            yield field.name, getattr(self, field.name)


DTYPES: Mapping[str, np.dtype[Any]] = {
    "start_ns": np.dtype(np.int64),
    "duration_ns": np.dtype(np.int64),
    "name": np.dtype(np.int32),
    "kind": np.dtype(np.uint8),
    "lane": np.dtype(np.int32),
    "parent": np.dtype(np.int32),
    "launch": np.dtype(np.int32),
    "correlation": np.dtype(np.int64),
    "sequence": np.dtype(np.int64),
    "forward_thread": np.dtype(np.int32),
    "shapes": np.dtype(np.int32),
    "concrete": np.dtype(np.int32),
    "bytes_moved": np.dtype(np.int64),
    "dtypes": np.dtype(np.int32),
    "stack": np.dtype(np.int32),
}
REQUIRED = ("start_ns", "duration_ns", "name", "kind", "lane")


def table_order(start_ns: NDArray[np.int64], duration_ns: NDArray[np.int64]) -> NDArray[np.intp]:
    """The order of rows in a table: by start, longest first among equals, else as given."""
    order = np.argsort(start_ns, kind="stable")
    same = np.diff(start_ns[order]) == 0
    tied = np.flatnonzero(np.r_[False, same] | np.r_[same, False])[: len(order)]
    rows = order[tied]  # sorting by both what shares its start is half the work of sorting all by both
    order[tied] = rows[np.lexsort((-duration_ns[rows], start_ns[rows]))]
    return order


def make_table(
    columns: Mapping[str, NDArray[Any] | Sequence[int]], order: NDArray[np.intp] | None = None
) -> EventTable:
    """An EventTable from columns in any row order; missing optional columns become -1.

    Rows are sorted (`order` is their `table_order`, where known), and `parent` and `launch` (row numbers of the
    input order) follow their rows.
    Raises KeyError where a required column is missing, ValueError where lengths differ.
    """
    count = len(columns["start_ns"])
    full: dict[str, NDArray[Any]] = {}
    for name, dtype in DTYPES.items():
        if name in columns:
            full[name] = np.asarray(columns[name], dtype=dtype)
        elif name in REQUIRED:
            raise KeyError(name)
        else:
            full[name] = np.full(count, NOT_KNOWN, dtype=dtype)
        if len(full[name]) != count:
            raise ValueError(f"column {name} has {len(full[name])} rows, start_ns has {count}")
    if order is None:
        order = table_order(full["start_ns"], full["duration_ns"])
    moved = np.empty(count, dtype=np.int32)
    moved[order] = np.arange(count, dtype=np.int32)
    for name in ("parent", "launch"):
        pointer = full[name]
        known = pointer >= 0
        pointer = pointer.copy()
        pointer[known] = moved[pointer[known]]
        full[name] = pointer
    return EventTable(**{name: column[order] for name, column in full.items()})


def nest(
    start_ns: NDArray[np.int64],
    duration_ns: NDArray[np.int64],
    lane: NDArray[np.int32],
    rows: NDArray[np.intp],
    *,
    in_order: bool = False,
) -> NDArray[np.int32]:
    """The innermost enclosing row on the same lane for each row of the whole table; -1 where there is none.

    `rows` selects which events take part (a sampler's or a device's would not nest); `in_order` says that they are
    in the order of a table, which spares sorting them. An event that starts
    inside another but ends after it (clock granularity does that) counts as inside.
    """
    parent = np.full(len(start_ns), NOT_KNOWN, dtype=np.int32)
    if in_order:
        narrow = np.uint16 if len(rows) and lane[rows].max() < 1 << 16 else np.int64  # 16 bits are sorted by radix
        order = rows[np.argsort(lane[rows].astype(narrow), kind="stable")]
    else:
        order = rows[np.lexsort((-duration_ns[rows], start_ns[rows], lane[rows]))]
    found = _last_still_open(start_ns[order], start_ns[order] + duration_ns[order], lane[order])
    known = found >= 0
    parent[order[known]] = order[found[known]]
    return parent


def _last_still_open(starts: NDArray[np.int64], ends: NDArray[np.int64], lanes: NDArray[np.int32]) -> NDArray[np.int32]:
    """For each i the largest j < i of its lane with ends[j] > starts[i], else -1; input sorted by lane, then start.

    Everything between a candidate c and its own candidate ended before c started, hence before i does: all
    events may jump to their candidate's candidate at once, which doubles the reach each round.
    """
    found = np.arange(-1, len(starts) - 1, dtype=np.int32)
    if not len(starts):
        return found
    found[np.flatnonzero(np.r_[True, lanes[1:] != lanes[:-1]])] = NOT_KNOWN
    # The first candidate is the row before: neighbours are compared without being looked up, a quarter of the time.
    open_rows = np.flatnonzero(np.r_[False, ends[:-1] <= starts[1:]] & (found >= 0))
    while len(open_rows):
        further = found[found[open_rows]]
        found[open_rows] = further
        known = further >= 0
        open_rows, further = open_rows[known], further[known]
        open_rows = open_rows[ends[further] <= starts[open_rows]]
    return found
