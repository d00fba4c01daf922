"""The protocol of a measurement: warm up until stable, repeat until the median is known, keep every sample.

Times are float nanoseconds a call. The clock and the cache flush are arguments, so that the protocol is tested
with a clock that is not real.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Clock = Callable[[], int]

FEWEST = 5
SHORTEST_SAMPLE_NS = 50_000  # reading the clock costs some 50 ns: a thousandth
_WARM_SPREAD = 0.05


@dataclass(frozen=True, slots=True)
class Timing:
    """Samples of one operation, summed up; nanoseconds a call."""

    median_ns: float
    low_ns: float  # 95 % interval of the median, by order statistics
    high_ns: float
    first_quartile_ns: float
    third_quartile_ns: float
    least_ns: float
    samples: int
    calls_each: int  # calls in one sample
    warmup_calls: int
    settled: bool  # the interval is as narrow as was asked; else the budget ended first


@dataclass(frozen=True, slots=True)
class Protocol:
    """When to stop. `within` is half the width of the median's interval over the median."""

    budget_s: float = 2.0
    within: float = 0.02
    fewest: int = FEWEST
    most: int = 2000
    clock: Clock = time.perf_counter_ns


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median and its 95 % interval from order statistics: no shape of distribution is assumed.

    Ranks n/2 -+ 0.98 * sqrt(n) are the normal approximation of the binomial (Conover, Practical Nonparametric
    Statistics, 3.2); with fewer than six samples that is the whole range.
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    count = len(ordered)
    half = 0.98 * math.sqrt(count)
    low = max(0, math.floor(count / 2 - half))
    high = min(count - 1, math.ceil(count / 2 + half) - 1)
    return float(np.median(ordered)), float(ordered[low]), float(ordered[high])


def measure(
    work: Callable[[], object], protocol: Protocol, *, before_each: Callable[[], object] | None = None
) -> Timing:
    """Times `work` under the protocol.

    `before_each` (a cache flush) runs before each sample, outside the clock; each sample is then one call.
    Otherwise calls are repeated until a sample is long beside a reading of the clock.
    """
    clock = protocol.clock
    start = clock()
    deadline = start + int(protocol.budget_s * 1e9)
    single, warm = _warm_up(work, protocol, start + int(protocol.budget_s * 0.25e9))
    calls = 1 if before_each is not None else max(1, math.ceil(SHORTEST_SAMPLE_NS / max(single, 1.0)))
    samples: list[float] = []
    settled = False
    while len(samples) < protocol.most and not settled:
        if len(samples) >= protocol.fewest and clock() >= deadline:
            break
        if before_each is not None:
            before_each()
        samples.append(_sample(work, calls, clock))
        settled = _is_settled(samples, protocol)
    return _sum_up(samples, calls, warm, settled)


def _sample(work: Callable[[], object], calls: int, clock: Clock) -> float:
    began = clock()
    for _ in range(calls):
        work()
    return (clock() - began) / calls


def _warm_up(work: Callable[[], object], protocol: Protocol, deadline: int) -> tuple[float, int]:
    """Calls until the last three agree, the time for it ends, or fifty were made; the last's time and how many."""
    times: list[float] = []
    while len(times) < 50:
        times.append(_sample(work, 1, protocol.clock))
        last = times[-3:]
        if len(times) >= 3 and max(last) - min(last) <= _WARM_SPREAD * min(last):
            break
        if protocol.clock() >= deadline:
            break
    return min(times[-3:]), len(times)


def _is_settled(samples: list[float], protocol: Protocol) -> bool:
    """Checked at growing counts only: looking after every sample would stop at a lucky moment."""
    count = len(samples)
    if count < protocol.fewest or (count > 10 and count % max(1, count // 8)):
        return False
    median, low, high = median_interval(samples)
    return high - low <= 2 * protocol.within * median


def _sum_up(samples: list[float], calls: int, warm: int, settled: bool) -> Timing:
    median, low, high = median_interval(samples)
    first, third = np.percentile(samples, [25, 75])
    return Timing(median, low, high, float(first), float(third), min(samples), len(samples), calls, warm, settled)
