"""Is one set of times different from another? Rank statistics: no assumption about the shape of the noise.

The test is Mann and Whitney's (1947, doi:10.1214/aoms/1177730491), exact for small samples; estimate and interval
of the ratio are Hodges and Lehmann's (1963, doi:10.1214/aoms/1177704172) on logarithms: the interval leaves out 1
where the test finds a difference. All assume that steps are independent; `thinned` makes them more so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import erfc, exp, sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ALPHA = 0.05  # of equal distributions, at most this share is called different
LEAST_STEPS = 3
EXACT_UP_TO = 25  # values on a side; beyond, the normal approximation is closer than the noise
MOST_VALUES = 1000  # on a side: of more, as many are taken, evenly
LEAST_TO_THIN = 12  # values; of fewer, a correlation from step to step is not told from chance
LEAST_BLOCKS = 6  # left after thinning: chance alone makes short series look correlated


@dataclass(frozen=True, slots=True)
class Difference:
    """How B's values compare with A's; None where there are too few to say."""

    ratio: float | None  # typical B over typical A
    low: float | None = None  # interval of the ratio at 1 - ALPHA
    high: float | None = None
    p: float | None = None  # chance of so great a difference between equal distributions, both directions
    before: int = 0  # values used, after thinning
    after: int = 0


def compare_values(before: Sequence[float], after: Sequence[float], alpha: float = ALPHA) -> Difference:
    """The ratio of `after` to `before` with its interval; both positive times.

    Fewer than LEAST_STEPS values on a side, or so few that not even values apart altogether would show a
    difference at `alpha`, give no interval.
    """
    a, b = _usable(before), _usable(after)
    if not len(a) or not len(b):
        return Difference(None, before=len(a), after=len(b))
    differences = np.sort((np.log(b)[:, None] - np.log(a)[None, :]).ravel())
    ratio = exp(float(np.median(differences)))
    if min(len(a), len(b)) < LEAST_STEPS:
        return Difference(ratio, before=len(a), after=len(b))
    p = mann_whitney(a, b)
    cut = _outermost(len(a), len(b), alpha)
    if cut is None:
        return Difference(ratio, p=p, before=len(a), after=len(b))
    low, high = exp(float(differences[cut])), exp(float(differences[len(differences) - 1 - cut]))
    return Difference(ratio, low, high, p, len(a), len(b))


def _usable(values: Sequence[float]) -> NDArray[np.float64]:
    """Finite positive values, thinned of what repeats from step to step."""
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array) & (array > 0)]
    if len(array) > MOST_VALUES:
        array = array[np.linspace(0, len(array) - 1, MOST_VALUES).astype(np.int64)]
    return thinned(array)


def thinned(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians of blocks of neighbours, so long that one block says little about the next.

    Where a value follows the one before with correlation r, n values are worth n (1 - r) / (1 + r): the block
    length is the inverse of that. Values that do not follow one another are returned as they are.
    """
    count = len(values)
    if count < LEAST_TO_THIN:
        return values
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)
    centred = ranks - ranks.mean()
    spread = float(np.sum(centred**2))
    follows = float(np.sum(centred[1:] * centred[:-1])) / spread if spread else 0.0
    follows += (1 + 3 * follows) / count  # Kendall (1954): short series look less correlated than they are
    if follows < 1 / sqrt(count):
        return values
    length = min(int(np.ceil((1 + follows) / max(1 - follows, 0.05))), count // LEAST_BLOCKS)
    blocks = count // length
    return np.median(values[: blocks * length].reshape(blocks, length), axis=1)


def mann_whitney(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The two-sided p-value; ties count half and make it no smaller."""
    order = np.sort(a)
    smaller = np.searchsorted(order, b, side="left") + np.searchsorted(order, b, side="right")
    u = float(smaller.sum()) / 2
    least = min(u, len(a) * len(b) - u)
    return min(1.0, 2 * at_most(int(np.ceil(least)), len(a), len(b)))


def _outermost(m: int, n: int, alpha: float) -> int | None:
    """How many of the m n differences to leave out at either end; None where none may be kept out safely."""
    low, high = -1, m * n // 2  # the chance grows with u: the last u whose chance is small enough is at least `low`
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if at_most(middle, m, n) <= alpha / 2 else (low, middle - 1)
    return low if low >= 0 else None


def at_most(u: int, m: int, n: int) -> float:
    """The chance that Mann and Whitney's U of two equal distributions is at most u."""
    if min(m, n) <= EXACT_UP_TO and max(m, n) <= 2 * EXACT_UP_TO:
        return float(exact_distribution(min(m, n), max(m, n))[u])
    deviation = sqrt(m * n * (m + n + 1) / 12)
    return 0.5 * erfc((m * n / 2 - u - 0.5) / deviation / sqrt(2))


@lru_cache(maxsize=256)
def exact_distribution(m: int, n: int) -> NDArray[np.float64]:
    """P(U <= u) for u from 0 to m n: the coefficients of the Gaussian binomial, summed.

    (1 - q^(n+1)) ... (1 - q^(n+m)) / (1 - q) ... (1 - q^m), factor by factor; integers of any size stay exact.
    """
    counts = [1] + [0] * (m * n)
    for factor in range(1, m + 1):
        for u in range(m * n, n + factor - 1, -1):
            counts[u] -= counts[u - n - factor]
        for u in range(factor, m * n + 1):
            counts[u] += counts[u - factor]
    whole = sum(counts)
    total, found = 0, []
    for count in counts:
        total += count
        found.append(total / whole)
    return np.array(found)


def adjusted(values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for their number (Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x).

    Called different where at most ALPHA: of rows called so, on average at most that share are false alarms; and
    of tables without any difference, at most that share show one.
    """
    known = sorted((value, index) for index, value in enumerate(values) if value is not None)
    found: list[float | None] = [None] * len(values)
    reached = 1.0
    for place in range(len(known), 0, -1):
        value, index = known[place - 1]
        reached = min(reached, value * len(known) / place)
        found[index] = reached
    return found
