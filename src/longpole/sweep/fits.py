"""What a step's time over batch sizes and over threads says: fixed and per sample, serial and parallel.

Each function takes one number a run. They know nothing of scripts or files: `longpole sweep` and `longpole survey`
both call them, and anyone with timings of their own may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.sweep.lines import Figure, Line, Usual, fit_line, ratio, weights_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NEAR = 0.05  # more parallelism stops paying where a sample costs this much more than in the largest batches


@dataclass(frozen=True, slots=True)
class BatchFit:
    """T(n) = fixed + per_sample n, in milliseconds, for n samples."""

    fixed_ms: Figure
    per_sample_ms: Figure
    # From this batch on a sample's time is within NEAR of what it is in the largest: fixed / (NEAR per_sample).
    # None where a sample costs nothing that can be seen: then more of them only ever pay.
    enough: Figure | None
    off_line: float  # how far the mean at some batch lies from the line, at most: a fraction of it
    line: Line


@dataclass(frozen=True, slots=True)
class ThreadFit:
    """T(p) = serial + parallel / p, in milliseconds, on p threads (Amdahl 1967)."""

    serial_ms: Figure
    parallel_ms: Figure  # on one thread
    serial_share: Figure | None  # of the time on one thread
    gained: Figure | None  # times as fast on the most threads tried as on one, by the fit
    limit: Figure | None  # times as fast as on the most threads tried, with threads without end; None: no end is seen
    line: Line


def fit_batches(
    batches: Sequence[float],
    ms: Sequence[float],
    weights: NDArray[np.float64] | None = None,
    usual: Usual | None = None,
) -> BatchFit | None:
    """Fixed and per-sample cost from runs at these batch sizes; None with fewer than two different ones.

    `weights`, one a run, are those of the step where this is a part of it: then the parts' fits sum to the step's.
    `usual` is the relative variance of runs as others have it.
    """
    line = fit_line(batches, ms, weights_of(batches, ms) if weights is None else weights, usual)
    if line is None:
        return None
    return BatchFit(
        fixed_ms=line.combination(1, 0),
        per_sample_ms=line.combination(0, 1),
        enough=_at_least(ratio(line, (1 / NEAR, 0), (0, 1)), 0.0),
        off_line=_off_line(batches, ms, line),
        line=line,
    )


def fit_threads(
    threads: Sequence[float],
    ms: Sequence[float],
    weights: NDArray[np.float64] | None = None,
    usual: Usual | None = None,
) -> ThreadFit | None:
    """The serial and the parallel part from runs on so many threads; None with fewer than two different ones."""
    if not len(threads) or min(threads) < 1:
        return None
    inverse = [1 / count for count in threads]
    line = fit_line(inverse, ms, weights_of(inverse, ms) if weights is None else weights, usual)
    if line is None:
        return None
    last = min(inverse)
    return ThreadFit(
        serial_ms=line.combination(1, 0),
        parallel_ms=line.combination(0, 1),
        serial_share=ratio(line, (1, 0), (1, 1)),
        gained=ratio(line, (1, 1), (1, last)),
        limit=ratio(line, (1, last), (1, 0)),
        line=line,
    )


def predict(fit: BatchFit, batch: float, runs: int = 1) -> Figure:
    """The time at a batch that was not measured, and where the mean of so many new runs would fall."""
    value = fit.line.at(batch)
    return fit.line.next_run(batch, runs / value**2 if value > 0 else float(runs))


def _at_least(figure: Figure | None, least: float) -> Figure | None:
    if figure is None:
        return None
    low = None if figure.low is None else max(figure.low, least)
    high = None if figure.high is None else max(figure.high, least)
    return Figure(max(figure.value, least), low, high)


def _off_line(x: Sequence[float], y: Sequence[float], line: Line) -> float:
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    means = [(float(value), float(ys[xs == value].mean())) for value in np.unique(xs)]
    return max(abs(mean / line.at(value) - 1) if line.at(value) > 0 else float("inf") for value, mean in means)
