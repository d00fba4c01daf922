"""How figures of several seeds become one: the fastest and the slowest are dropped, and the rest averaged.

MLPerf's rule for its training results ("dropping the highest and lowest results ... averaging the rest",
https://github.com/mlcommons/training_policies/blob/master/training_rules.adoc). There, too, one run that does not
reach the target counts as the slowest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longpole.analysis.converge_results import Spread
from longpole.convergence.intervals import trimmed_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_TO_DROP = 3
LEAST_TO_FORGIVE = 5  # runs, of which one may have failed: three are left to average


def over_seeds(values: Sequence[float | None]) -> Spread:
    """`None` is a run that never reached the target."""
    known = sorted(value for value in values if value is not None)
    missing = len(values) - len(known)
    ends: dict[str, Any] = {"least": known[0], "most": known[-1]} if known else {}
    if not known or (missing and (missing > 1 or len(values) < LEAST_TO_FORGIVE)):
        said = f"reached in {len(known)} of {len(values)} runs: no mean"
        return Spread(runs=len(values), sentence=said, **ends)
    if missing:
        rest = known[1:]
        said = f"of {len(values)} runs one never reached it and counts as the slowest; it and the fastest are dropped"
        return Spread(sum(rest) / len(rest), runs=len(values), dropped=2, sentence=said, **ends)
    if len(known) < LEAST_TO_DROP:
        said = "one run: no spread is known" if len(known) == 1 else "mean of two runs: too few to drop any"
        return Spread(sum(known) / len(known), runs=len(known), sentence=said, **ends)
    rest = known[1:-1]
    interval = trimmed_interval(known)
    said = f"of {len(known)} runs the fastest and the slowest are dropped, mean of the rest"
    if interval is None:
        said += "; too few for an interval"
        return Spread(sum(rest) / len(rest), runs=len(known), dropped=2, sentence=said, **ends)
    return Spread(sum(rest) / len(rest), *interval, runs=len(known), dropped=2, sentence=said, **ends)
