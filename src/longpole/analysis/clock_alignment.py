"""Clocks of several ranks put on one, by collectives: they end at nearly the same true time on every rank.

Ranks issue the collectives of a group in one order, but their recordings begin and end at different ones. Which
of them match is found by shifting one rank's list along the other's: at the right shift the operations agree and
the ends differ by one constant; at a wrong one the constant wanders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.analysis.communication import NOT_KNOWN, collective_kernels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.analysis.communication import CollectiveKernels
    from longpole.trace import Trace

    Kernels = Sequence[CollectiveKernels]

# All ranks leave these together, or nearly so; a broadcast's root may leave long before the others.
TOGETHER = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "barrier")
SAMPLES = 512  # pairs by which a shift is judged
REACH = 512  # shifts tried to either side of equal begins and of equal ends
AGREEING = 0.98  # share of pairs whose operation and size must not contradict each other
NEAR = 2.0  # spreads within this factor of the best are as good; the smallest offset decides between them
GRANULARITY_NS = 1000
AT_ONCE = 128  # shifts judged in matrices, which then fit the cache


@dataclass(frozen=True, slots=True)
class Listing:
    """One rank's collectives of one group, in order."""

    row: NDArray[np.int64]  # rows of its event table
    operation: NDArray[np.int64]  # place in a list common to all ranks; -1 is not known
    message_bytes: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    ranks: int  # size of the group; -1 is not known


@dataclass(frozen=True, slots=True)
class Match:
    """Collectives of one group that were found on each of several ranks: a row of each matrix a member."""

    group: str
    members: tuple[int, ...]  # places in the list of traces
    size: int  # ranks of the group, which may be more than were opened; -1 is not known
    operation: tuple[str | None, ...]  # of each collective
    message_bytes: NDArray[np.int64]  # of each collective; -1 is not known
    row: NDArray[np.int64]  # members x collectives
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]

    def together(self) -> NDArray[np.bool_]:
        """Which collectives all members leave at one time."""
        return np.array([operation in TOGETHER for operation in self.operation], dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Each rank's time plus its offset is the reference's; None where a rank shares no collective with it."""

    offset_ns: tuple[int | None, ...]
    residual_ns: tuple[int | None, ...]
    matched: tuple[int, ...]
    matches: tuple[Match, ...]

    def shifted(self, times: NDArray[np.int64], members: Sequence[int]) -> NDArray[np.int64]:
        """Times (members x anything) on the reference's clock."""
        offsets = np.array([self.offset_ns[member] or 0 for member in members], dtype=np.int64)
        return times + offsets[:, None]


def align(traces: Sequence[Trace], kernels: Kernels | None = None) -> Alignment:
    """Matches the collectives of the ranks and puts their clocks on that of the rank with most in common."""
    if kernels is None:
        kernels = [collective_kernels(trace) for trace in traces]
    matches = tuple(match for match in _matches(traces, kernels) if len(match.operation))
    offsets = _offsets(len(traces), matches)
    residuals: list[int | None] = []
    matched: list[int] = []
    for index in range(len(traces)):
        gaps = [_distance(match, offsets, match.members.index(index)) for match in matches if index in match.members]
        joined = np.concatenate(gaps) if gaps else np.empty(0, dtype=np.int64)
        matched.append(len(joined))
        residuals.append(int(np.median(joined)) if len(joined) and offsets[index] is not None else None)
    return Alignment(tuple(offsets), tuple(residuals), tuple(matched), matches)


def _distance(match: Match, offsets: Sequence[int | None], place: int) -> NDArray[np.int64]:
    """How far each collective's end on this rank is from the middle of the members' ends, once aligned."""
    known = [index for index, member in enumerate(match.members) if offsets[member] is not None]
    if place not in known:
        return np.empty(0, dtype=np.int64)
    shift = np.array([offsets[match.members[index]] or 0 for index in known], dtype=np.int64)
    ends = match.end_ns[known] + shift[:, None]
    middle = np.median(ends, axis=0).astype(np.int64)
    return np.abs(ends[known.index(place)] - middle)[match.together()]


def _matches(traces: Sequence[Trace], kernels: Kernels) -> list[Match]:
    operations: dict[str, int] = {}
    by_group: dict[str, dict[int, Listing]] = {}
    for index, (trace, calls) in enumerate(zip(traces, kernels, strict=True)):
        for group, sequence in _sequences(trace, calls, operations).items():
            by_group.setdefault(group, {})[index] = sequence
    names: list[str | None] = [*operations, None]
    found: list[Match] = []
    for group, sequences in by_group.items():
        left = sequences
        while len(left) > 1:
            match, used = _one_group(group, left, names)
            if match is not None:
                found.append(match)
            left = {member: one for member, one in left.items() if member not in used}
    return found


def _sequences(trace: Trace, calls: CollectiveKernels, operations: dict[str, int]) -> Mapping[str, Listing]:
    """A library's collectives by group; those of no known group by stream, where there are several."""
    library = np.flatnonzero(calls.library)
    codes = np.array([operations.setdefault(text, len(operations)) for text in calls.operations], dtype=np.int64)
    lane = trace.events.lane[calls.row]
    streams = len(np.unique(lane[library[calls.group[library] < 0]]))
    keys = np.where(calls.group >= 0, calls.group, -1 - lane if streams > 1 else NOT_KNOWN)
    found: dict[str, Listing] = {}
    for key in np.unique(keys[library]).tolist():
        mine = library[keys[library] == key]
        text = trace.text(key) if key >= 0 else trace.lanes[-1 - key].name if streams > 1 else ""
        row = calls.row[mine]
        operation = np.where(calls.operation[mine] >= 0, np.r_[codes, 0][calls.operation[mine]], NOT_KNOWN)
        # NCCL makes an all_to_all of sends and receives: without arguments the kernel's name does not tell.
        operation[operation == operations.get("send_recv", -2)] = NOT_KNOWN
        start = trace.events.start_ns[row]
        end = start + trace.events.duration_ns[row]
        found[text] = Listing(row, operation, calls.message_bytes[mine], start, end, int(calls.ranks[mine].max()))
    return found


def _one_group(
    group: str, sequences: Mapping[int, Listing], names: Sequence[str | None]
) -> tuple[Match | None, Sequence[int]]:
    """A match of one process group, and the ranks it used up.

    Groups of different ranks may share a name (each tensor-parallel group is "mesh_tp"): where there are more
    ranks than a group has, those whose ends fit the first rank's best are its group.
    """
    first = max(sequences, key=lambda member: len(sequences[member].row))
    fits = {m: best_shift(sequences[first], one) for m, one in sequences.items() if m != first}
    others = sorted((fit[1], member) for member, fit in fits.items() if fit is not None)
    size = sequences[first].ranks
    if 0 < size <= len(others):
        others = others[: size - 1]
    members = sorted([first, *(member for _, member in others)])
    if len(members) < 2:
        return None, [first]
    shifts = {member: fit[0] for member, fit in fits.items() if fit is not None} | {first: 0}
    low = max(shifts[member] for member in members)
    high = min(shifts[member] + len(sequences[member].row) for member in members)
    place = np.arange(low, max(low, high))
    taken = [(sequences[member], place - shifts[member]) for member in members]
    operation = np.max([one.operation[at] for one, at in taken], axis=0)
    match = Match(
        group=group,
        members=tuple(members),
        size=size,
        operation=tuple(names[code] for code in operation.tolist()),  # -1 is the last, None
        message_bytes=np.max([one.message_bytes[at] for one, at in taken], axis=0),
        row=np.stack([one.row[at] for one, at in taken]),
        start_ns=np.stack([one.start_ns[at] for one, at in taken]),
        end_ns=np.stack([one.end_ns[at] for one, at in taken]),
    )
    return match, members


def best_shift(one: Listing, other: Listing) -> tuple[int, float] | None:
    """The shift s for which one[i + s] is other[i], and the spread of the ends' differences there, ns.

    None where no shift makes the operations agree.
    """
    count, length = len(one.row), len(other.row)
    shift = np.array(sorted({c + step for c in (0, count - length) for step in range(-REACH, REACH + 1)}))
    overlap = np.minimum(count, shift + length) - np.maximum(shift, 0)
    shift = shift[overlap >= max(1, min(count, length) // 2)]
    some = [_judged(one, other, shift[low : low + AT_ONCE]) for low in range(0, len(shift), AT_ONCE)]
    if not some:
        return None
    fits, spread, middle = (np.concatenate(columns) for columns in zip(*some, strict=True))
    if not fits.any():
        return None
    shift, spread, middle = shift[fits], spread[fits], middle[fits]
    near = np.flatnonzero(spread <= NEAR * spread.min() + GRANULARITY_NS)
    best = near[np.argmin(np.abs(middle[near]))]  # of equals the first
    return int(shift[best]), float(spread[best])


def _judged(
    one: Listing, other: Listing, shift: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """For each shift: whether enough pairs agree, and of the ends' differences the spread and the middle, ns.

    A row of each matrix is a shift; where fewer than SAMPLES pairs overlap, the rest of a row counts nowhere.
    """
    low, high = np.maximum(shift, 0), np.minimum(len(one.row), shift + len(other.row))
    taken = np.minimum(high - low, SAMPLES)
    column = np.arange(SAMPLES)
    apart_by = (high - 1 - low) / np.maximum(taken - 1, 1)
    place = (column * apart_by[:, None] + low[:, None]).astype(np.int64)
    place[taken == SAMPLES, -1] = high[taken == SAMPLES] - 1  # to the last, whatever was rounded
    counts = column < taken[:, None]
    place = np.where(counts, place, low[:, None])
    there = place - shift[:, None]
    fits = (_agree(one, other, place, there) & counts).sum(axis=1) / taken >= AGREEING
    apart = one.end_ns[place[fits]] - other.end_ns[there[fits]]
    spread, middle = np.zeros(len(shift)), np.zeros(len(shift))
    middle[fits] = _medians(apart, counts[fits], taken[fits])
    spread[fits] = _medians(np.abs(apart - middle[fits, None]), counts[fits], taken[fits])
    return fits, spread, middle


def _agree(one: Listing, other: Listing, place: NDArray[np.int64], there: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pairs neither operation nor size contradicts."""
    fits = np.ones(place.shape, dtype=np.bool_)
    for mine, theirs in ((one.operation, other.operation), (one.message_bytes, other.message_bytes)):
        left, right = mine[place], theirs[there]
        fits &= (left == right) | (left < 0) | (right < 0)
    return fits


def _medians(table: NDArray[Any], counts: NDArray[np.bool_], taken: NDArray[np.int64]) -> NDArray[np.float64]:
    """The median of each row, of those of its cells that count, of which each row has `taken`."""
    most = np.iinfo(np.int64).max if table.dtype.kind == "i" else np.inf
    in_order = np.sort(np.where(counts, table, most), axis=1)
    row = np.arange(len(table))
    below, above = in_order[row, (taken - 1) // 2], in_order[row, taken // 2]
    return (below.astype(np.float64) + above) / 2


def _offsets(count: int, matches: Sequence[Match]) -> list[int | None]:
    """Offsets along the best-supported chain of pairs from the rank with most collectives in common."""
    support = [0] * count
    for match in matches:
        for member in match.members:
            support[member] += int(match.together().sum())
    offsets: list[int | None] = [None] * count
    if not any(support):
        return offsets
    offsets[support.index(max(support))] = 0
    for match in sorted(matches, key=lambda one: -int(one.together().sum())) * count:
        _spread(match, offsets)
        if all(offset is not None for offset in offsets):
            break
    return offsets


def _spread(match: Match, offsets: list[int | None]) -> None:
    """Gives offsets to the members of a match from the first that has one, in place."""
    sure = match.together()
    known = [index for index, member in enumerate(match.members) if offsets[member] is not None]
    if not known or not sure.any():
        return
    ends = match.end_ns[:, sure]
    for index, member in enumerate(match.members):
        if offsets[member] is None:
            base = offsets[match.members[known[0]]] or 0
            offsets[member] = base + int(np.median(ends[known[0]] - ends[index]))
