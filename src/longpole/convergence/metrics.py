"""The figures that a followed run offers, under one name each, and the one that is asked for. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.convergence.curves import Points
from longpole.convergence.says import direction_of, read_texts
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from longpole.convergence.observed import Observed

LEAST_POINTS = 2  # a figure that is said once is no curve
MOST_LISTED = 12


@dataclass(frozen=True, slots=True)
class Followed:
    """One metric of one run."""

    name: str
    source: str  # backward | printed | logged | returned
    points: Points


def start_ns(observed: Observed) -> float | None:
    """When the first step began, if it took as long as the median one: nothing marks its beginning. None: no step."""
    ends = observed.step_ends_ns
    return None if not ends else ends[0] - (step_seconds(observed) or 0.0) * 1e9


def step_seconds(observed: Observed) -> float | None:
    """The median time from update to update; None for fewer than two."""
    if len(observed.step_ends_ns) < 2:
        return None
    return float(np.median(np.diff(np.asarray(observed.step_ends_ns, dtype=np.int64)))) / 1e9


def metrics_of(observed: Observed) -> list[Followed]:
    """Every metric of at least two values: first what backward starts from, then what the script itself says."""
    found: dict[str, Followed] = {}
    begun = start_ns(observed)
    if begun is None:
        return []
    for series in observed.losses:
        rows = [
            (step, observed.step_ends_ns[step - 1], value)
            for step, value in _done(series.steps, series.values, observed)
        ]
        _add(found, series.name, "backward", rows, begun)
    said: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
    for figure in observed.figures:
        said.setdefault((figure.name, figure.source), []).append((figure.step, figure.ns, figure.value))
    for one in read_texts(observed.texts):
        said.setdefault((one.name, "printed"), []).append((one.step, one.ns, one.value))
    for (name, source), rows in said.items():
        _add(found, name, source, rows, begun)
    return list(found.values())


def _done(steps: Sequence[int], values: Sequence[float], observed: Observed) -> Iterable[tuple[int, float]]:
    """Without losses of a step that was never finished."""
    return [(step, value) for step, value in zip(steps, values, strict=True) if step <= len(observed.step_ends_ns)]


def _add(found: dict[str, Followed], name: str, source: str, rows: list[tuple[int, int, float]], begun: float) -> None:
    if len({step for step, _, _ in rows}) < LEAST_POINTS:
        return
    steps = np.array([step for step, _, _ in rows], dtype=np.int64)
    seconds = np.maximum((np.array([ns for _, ns, _ in rows], dtype=np.float64) - begun) / 1e9, 0.0)
    points = Points(steps, seconds, np.array([value for _, _, value in rows], dtype=np.float64))
    unique = name if name not in found else f"{name} ({source})"
    found.setdefault(unique, Followed(unique, source, points))


def pick(offered: Sequence[Followed], wanted: str | None) -> Followed:
    """The metric that is asked for, by its name or by a part that only one has. Raises LongpoleError otherwise.

    Not asked: the loss that backward starts from; the only measure that is printed, where there is no such loss.
    """
    if not offered:
        raise LongpoleError("the script trains, but neither a loss nor a printed metric was seen twice")
    if wanted is None:
        return _usual(offered)
    for same in (str, str.lower, _letters):
        exact = [one for one in offered if same(one.name) == same(wanted)]
        if len(exact) == 1:
            return exact[0]
    parts = [one for one in offered if _letters(wanted) in _letters(one.name)]
    if len(parts) == 1:
        return parts[0]
    which = "fits several" if parts else "is not among what the script says"
    raise LongpoleError(f"--metric {wanted} {which}; choose one of: {listed(parts or offered)}")


def _usual(offered: Sequence[Followed]) -> Followed:
    losses = [one for one in offered if one.source == "backward"]
    known = losses or [one for one in offered if direction_of(one.name) is not None]
    if len(known) == 1:
        return known[0]
    why = "several losses are trained on" if losses else "no loss was seen in backward"
    raise LongpoleError(f"{why}; say which metric counts with --metric: {listed(known or offered)}")


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def listed(offered: Sequence[Followed]) -> str:
    names = [one.name for one in offered[:MOST_LISTED]]
    return ", ".join(names) + (f" and {len(offered) - MOST_LISTED} more" if len(offered) > MOST_LISTED else "")
