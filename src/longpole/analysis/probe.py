"""Takes what recording itself costs off the recorded times, so that they agree with the steps nobody recorded.

Recording an op costs about a microsecond, part of it inside the op and part round it, whatever the op does.
So the surplus of a deep step over a level-0 step is taken off in equal amounts for each event, never below
zero, rather than in proportion, which would shrink a long op for the sake of short ones. Never more is taken
off an event than recording can have cost; a surplus beyond that is noise, which is in proportion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS = 60  # of bisection: enough for any double


def without_probe(
    own: NDArray[np.float64], events: NDArray[np.float64], target: float, most: float = np.inf
) -> NDArray[np.float64]:
    """Times that sum to `target`: each entry less an equal cost, at most `most`, for each of its events.

    What is then still too much or too little is scaled. Where nothing was recorded, nothing is returned, and
    the caller keeps the target as it is.
    """
    total = float(own.sum())
    if total <= target or total == 0 or not events.any():
        return own * (target / total) if total > 0 else own
    low, high = 0.0, min(float((own / np.maximum(events, 1e-9)).max()), most)
    for _ in range(ROUNDS):
        cost = (low + high) / 2
        if np.maximum(own - cost * events, 0).sum() > target:
            low = cost
        else:
            high = cost
    found = np.maximum(own - high * events, 0)
    remaining = float(found.sum())
    return found * (target / remaining) if remaining > 0 else own * (target / total)
