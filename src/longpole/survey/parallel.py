"""How parallel a network is: over the minibatch and inside a layer, from runs with a smaller batch and other threads.

Two settings make a line but cannot show that there is one: `longpole sweep` tries more of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from longpole.analysis.survey import Estimate, OverBatch, OverThreads
from longpole.errors import LongpoleError
from longpole.sweep.fits import fit_batches, fit_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.survey import Figures
    from longpole.survey.run_one import Asked
    from longpole.sweep.lines import Figure, Usual

BATCH, THREADS = SETTINGS = ("batch", "threads")
SMALLER = 4  # a smaller batch is this part of the network's: far enough for a line, and quick to run
LEAST_BUDGET_S = 1.0
LEAST_STEPS = 6  # to let pass and to time, however slow they are
BUDGET_PART = 3  # such a run times whole steps alone, so it needs this part of the time that another has


def asked_elsewhere(asked: Asked, run: Figures, setting: str, cores: int | None) -> Asked:
    """How to run the network of `run` in another setting.

    Raises LongpoleError, with the reason, where there is no other.
    """
    if setting == BATCH:
        if run.batch_size is None or run.batch_size < 2:
            raise LongpoleError("its batch cannot be made smaller")
        return replace(asked, budget_s=_budget_s(asked, run.step_ms), batch_size=max(run.batch_size // SMALLER, 1))
    if run.threads is None:
        raise LongpoleError("the number of its threads is not known")
    other = 1 if run.threads > 1 else cores or 1
    if other == run.threads:
        raise LongpoleError("this machine has one core")
    slowest_ms = run.step_ms * max(run.threads / other, 1)
    return replace(asked, budget_s=_budget_s(asked, slowest_ms), threads=other)


def _budget_s(asked: Asked, step_ms: float) -> float:
    """A third of what another run has, or more where steps may take so long that this would be too few of them."""
    return max(asked.budget_s / BUDGET_PART, LEAST_BUDGET_S, LEAST_STEPS * step_ms / 1000)


def over_batch(runs: Sequence[Figures], others: Sequence[Figures], usual: Usual) -> OverBatch | None:
    """None where fewer than two batches ran."""
    known = [(run.batch_size, run.median_ms) for run in (*runs, *others) if run.batch_size]
    fit = fit_batches([float(batch) for batch, _ in known], [ms for _, ms in known], usual=usual)
    if fit is None:
        return None
    batches = sorted({batch for batch, _ in known})
    is_seen = fit.per_sample_ms.low is not None and fit.per_sample_ms.low > 0
    enough = _estimate(fit.enough) if is_seen else None
    return OverBatch(batches, _known(fit.fixed_ms), _known(fit.per_sample_ms), enough)


def over_threads(runs: Sequence[Figures], others: Sequence[Figures], usual: Usual) -> OverThreads | None:
    """None where fewer than two numbers of threads ran."""
    known = [(run.threads, run.median_ms) for run in (*runs, *others) if run.threads]
    fit = fit_threads([float(threads) for threads, _ in known], [ms for _, ms in known], usual=usual)
    if fit is None:
        return None
    tried = sorted({threads for threads, _ in known})
    return OverThreads(tried, _estimate(fit.gained), _estimate(fit.serial_share), _estimate(fit.limit))


def _known(figure: Figure) -> Estimate:
    return Estimate(figure.value, figure.low, figure.high)


def _estimate(figure: Figure | None) -> Estimate | None:
    return None if figure is None else _known(figure)
