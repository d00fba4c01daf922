"""From a run's trace to its price list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.analysis.attribution import attribute, loss_share
from longpole.analysis.host_times import times_of
from longpole.analysis.ledger import make_ledger, with_inner_loss
from longpole.analysis.memory_inside import watched_step
from longpole.analysis.segments import steps_at
from longpole.analysis.statistics import median_interval
from longpole.errors import LongpoleError
from longpole.trace import Level
from longpole.whatif.lives import Lives
from longpole.whatif.price import PriceList
from longpole.whatif.recompute import recompute_ms

if TYPE_CHECKING:
    from longpole.analysis.ledger import Ledger
    from longpole.trace.trace import Trace
    from longpole.whatif.recompute import Overhead


def price_list(trace: Trace, overhead: Overhead | None = None) -> PriceList:
    """Raises LongpoleError where the trace holds no step whose memory, or whose operations, were recorded."""
    name = trace.info.script or "the trace"
    step = watched_step(trace)
    if step is None:
        raise LongpoleError(
            f"{name}: no step's memory was recorded; longpole run records it where the "
            "script has no profiler, dispatch mode or compiled code of its own"
        )
    if step.saved_only:
        raise LongpoleError(
            f"{name} uses torch.compile, which decides for itself what it computes again: there is no price list; "
            "run it without torch.compile"
        )
    if not steps_at(trace, Level.OPS):
        raise LongpoleError(f"{name}: no step's operations were recorded; run it for longer")
    try:
        ledger = make_ledger(trace)
    except ValueError as error:
        raise LongpoleError(f"{name} holds no measured step: {error}") from error
    attribution = attribute(trace)
    losses = (loss_share(attribution, marked=True), loss_share(attribution, marked=False))
    times = times_of(trace, attribution, with_inner_loss(ledger, *losses))
    lives = Lives(step, trace.layers)
    again = recompute_ms(trace, attribution, times, lives, overhead)
    return PriceList(lives, trace.layers, again, times.step_ms, _noise_ms(ledger))


def _noise_ms(ledger: Ledger) -> float | None:
    """By so much the medians of two runs of the same script may differ: the root of the sum of two equal squares."""
    found = median_interval(ledger.wall_ms)
    return (found[1] - found[0]) / 2 * 2**0.5 if found is not None else None
