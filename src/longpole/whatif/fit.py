"""The cheapest set of layers to compute again so that a step fits into a number of bytes.

A step climbs through its layers in forward and comes down through them in backward. Positions count layers' ends
in that order: at position p, those layers that end at or before p are done with in forward and not yet needed in
backward, and what was freed of them is missing from memory there, in both directions. A layer that is computed
again jumps from its start to its end. So a choice is a path from position 0 to the last, and it fits when on its
way enough has been freed for the level of each position that it visits.

Exact by dynamic programming: at each position only those ways are kept that no other beats in bytes and time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_WAYS = 5_000  # kept at one position; more are thinned, and then the gap is told


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layer that may be computed again, from position `start` to `end` of the step's order."""

    name: str
    start: int
    end: int
    freed_bytes: int
    ms: float  # what it adds to a step
    level_bytes: int  # the most memory while it runs, forward and backward, with nothing freed before it


@dataclass(frozen=True, slots=True)
class Problem:
    """A step's memory: `level_bytes[p]` is the most while the step is at position p, `fixed_bytes` outside of all.

    Candidates are disjoint or nested.
    """

    level_bytes: Sequence[int]
    candidates: Sequence[Candidate]
    fixed_bytes: int = 0  # the most where no layer's memory is held: in the update

    def peak_bytes(self, chosen: Iterable[Candidate]) -> int:
        """The most that a step holds when these, disjoint ones, are computed again."""
        peak, freed, position = self.fixed_bytes, 0, 0
        for candidate in sorted(chosen, key=lambda one: one.start):
            visited = self.level_bytes[position : candidate.start + 1]
            peak = max(peak, *(level - freed for level in visited), candidate.level_bytes - freed)
            freed += candidate.freed_bytes
            position = candidate.end
        return max(peak, *(level - freed for level in self.level_bytes[position:]))


@dataclass(frozen=True, slots=True)
class Fit:
    """The chosen layers. `gap_ms`: how much cheaper the best set could be at most; 0 where this one is the best."""

    chosen: tuple[Candidate, ...]
    ms: float
    peak_bytes: int
    gap_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class _Way:
    freed: int
    ms: float
    before: _Way | None
    by: Candidate | None  # the step that led here; None: nothing was computed again

    def chosen(self) -> tuple[Candidate, ...]:
        way, found = self, list[Candidate]()
        while way is not None:
            if way.by is not None:
                found.append(way.by)
            way = way.before
        return tuple(reversed(found))


def fit(problem: Problem, budget_bytes: int, most_ways: int = MOST_WAYS) -> Fit | None:
    """The cheapest set whose peak is at most `budget_bytes`; None where no set is."""
    if problem.fixed_bytes > budget_bytes:
        return None
    last = len(problem.level_bytes) - 1
    starting: dict[int, list[Candidate]] = {}
    for candidate in problem.candidates:
        starting.setdefault(candidate.start, []).append(candidate)
    ways: list[list[_Way]] = [[] for _ in problem.level_bytes]
    ways[0], thinned = [_Way(0, 0.0, None, None)], False
    for position, level in enumerate(problem.level_bytes):
        here = [way for way in _unbeaten(ways[position]) if way.freed >= level - budget_bytes]
        thinned |= len(here) > most_ways
        ways[position] = here = _thinned(here, most_ways)
        if position == last:
            break
        ways[position + 1] += here
        for candidate in starting.get(position, ()):
            ways[candidate.end] += [
                _Way(way.freed + candidate.freed_bytes, way.ms + candidate.ms, way, candidate)
                for way in here
                if way.freed >= candidate.level_bytes - budget_bytes
            ]
    if not ways[last]:
        return None
    best = min(ways[last], key=lambda way: (way.ms, -way.freed))
    gap = max(best.ms - least_ms(problem, budget_bytes), 0.0) if thinned else 0.0
    chosen = best.chosen()
    return Fit(chosen, best.ms, problem.peak_bytes(chosen), gap)


def _unbeaten(ways: list[_Way]) -> list[_Way]:
    """By bytes freed, falling; each cheaper than all before it."""
    found: list[_Way] = []
    for way in sorted(ways, key=lambda way: (-way.freed, way.ms)):
        if not found or way.ms < found[-1].ms:
            found.append(way)
    return found


def _thinned(ways: list[_Way], most: int) -> list[_Way]:
    """Evenly, both ends kept: what frees the most, and what is cheapest."""
    if len(ways) <= most:
        return ways
    return [ways[at * (len(ways) - 1) // (most - 1)] for at in range(most)]


def least_ms(problem: Problem, budget_bytes: int) -> float:
    """No set that fits is cheaper: each position's need alone, met by parts of layers, the cheapest bytes first."""
    by_price = sorted(
        (one for one in problem.candidates if one.freed_bytes > 0), key=lambda one: one.ms / one.freed_bytes
    )
    least = 0.0
    for position in _always_visited(problem):
        missing, ms = problem.level_bytes[position] - budget_bytes, 0.0
        for candidate in by_price:
            if missing <= 0:
                break
            if candidate.end <= position:
                part = min(missing / candidate.freed_bytes, 1.0)
                missing -= int(part * candidate.freed_bytes) if part < 1 else candidate.freed_bytes
                ms += part * candidate.ms
                missing = 0 if part < 1 else missing
        least = max(least, ms)
    return least


def _always_visited(problem: Problem) -> list[int]:
    """Positions that no candidate jumps over."""
    inside = {at for one in problem.candidates for at in range(one.start + 1, one.end)}
    return [at for at in range(len(problem.level_bytes)) if at not in inside]


def smallest_peak(problem: Problem) -> Fit:
    """The set that brings the peak down the furthest, the cheapest of such sets: by halving the budget."""
    low, high = problem.fixed_bytes, problem.peak_bytes(())
    best = Fit((), 0.0, high)
    while low < high:
        middle = (low + high) // 2
        found = fit(problem, middle)
        if found is None:
            low = middle + 1
        else:
            best, high = found, min(found.peak_bytes, middle)
    return best
