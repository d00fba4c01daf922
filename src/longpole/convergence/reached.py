"""When a run may end at its target: nothing that it would still do can change where the target was reached."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING

from longpole.convergence.curves import LEAST_OF_BATCHES, WIDEST, Points, held_places, window_for
from longpole.convergence.metrics import metrics_of, pick
from longpole.convergence.says import RISES, direction_of
from longpole.errors import LongpoleError
from longpole.trace.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.convergence.metrics import Followed
    from longpole.convergence.observed import Observed, StopAt
    from longpole.trace.clock import Clock

SELDOM = 100  # times what a look took to compute has to pass before the next
LEAST_BATCHES = 3 * LEAST_OF_BATCHES  # from here on batches are smoothed over five


class TargetWatch:
    """Looks at a run from time to time; looking takes a hundredth of the time at most."""

    def __init__(self, stop_at: StopAt, clock: Clock = monotonic_ns, spent: Clock = time.thread_time_ns) -> None:
        self.looking_ns = 0
        self._spent = spent  # not the clock's time: a look that had to wait for a processor took no longer
        self._stop_at = stop_at
        self._clock = clock
        self._next_ns = 0

    def is_reached(self, so_far: Callable[[], Observed]) -> bool:
        if self._clock() < self._next_ns:
            return False
        began = self._spent()
        found = is_reached(so_far(), self._stop_at)
        took = self._spent() - began
        self.looking_ns += took
        self._next_ns = self._clock() + SELDOM * took
        return found


def is_reached(observed: Observed, stop_at: StopAt) -> bool:
    """Whether a run that did this may end. Not where the metric, or which way it gets better, is not clear."""
    try:
        metric = pick(metrics_of(observed), stop_at.metric)
    except LongpoleError:
        return False
    direction = stop_at.direction or direction_of(metric.name)
    if direction is None or (stop_at.is_whole_name and metric.name != stop_at.metric):
        return False
    return decided_after(metric.points, stop_at.target, direction, of_batches=is_of_batches(metric)) is not None


def is_of_batches(metric: Followed) -> bool:
    """Whether each value is of one batch: the loss, or what is said at every step."""
    steps = metric.points.steps
    return metric.source == "backward" or (len(steps) > 2 and int(steps[2] - steps[0]) <= 2)


def decided_after(points: Points, target: float, direction: str, *, of_batches: bool) -> int | None:
    """The least number of values that settle where the target is reached; None: these do not.

    Settled after n values: for every window up to the one for n values, the target is reached at a place whose
    smoothed value and whose means ahead need no later values. A comparison uses one of these windows, since it goes
    by the run that is settled first; so the place is the same whether or not the run goes on.
    """
    sign = -1.0 if direction == RISES else 1.0
    values, goal, count = sign * points.values, sign * target, len(points.values)
    settled = LEAST_BATCHES if of_batches else 1
    for window in range(1, WIDEST + 1, 2):
        from_count = _least_count(window, count, of_batches)
        if from_count > count:
            return None
        places = held_places(values, goal, window)
        places = places[places + window // 2 < count]
        if not len(places):
            return None
        settled = max(settled, from_count, int(places[0]) + window // 2 + 1)
        if settled < _least_count(window + 2, count, of_batches):
            return settled if settled <= count else None
    return None


def _least_count(window: int, count: int, of_batches: bool) -> int:
    """Of so many values on, runs are smoothed over `window` of them or more; more than `count`: by none up to it."""
    counts = range(count + 1)
    return bisect_left(counts, window, key=lambda n: window_for([n], of_batches=of_batches))
