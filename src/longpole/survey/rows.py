"""From the runs of each network to one row each: means, and intervals that every network's runs have a say in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from longpole.analysis.survey import Estimate, Figures, Row
from longpole.survey.figures import PRODUCTS
from longpole.survey.parallel import BATCH, THREADS, over_batch, over_threads
from longpole.survey.spread import USUAL_LOGARITHM, USUAL_SHARE, Usual, pooled, ratio, share

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from longpole.survey.catalogue import Network

PASSES = ("forward", "loss", "backward")


@dataclass(frozen=True, slots=True)
class Measured:
    """What there is of one network: its runs, or why there is none."""

    network: Network
    size: str
    runs: Sequence[Figures] = ()
    failed: str | None = None
    seconds: float = 0.0
    others: Mapping[str, Sequence[Figures]] = field(default_factory=dict[str, "Sequence[Figures]"])
    not_known: Mapping[str, str] = field(default_factory=dict[str, str])  # why there are no others


@dataclass(frozen=True, slots=True)
class _Usual:
    """How far runs usually differ, in each kind of figure."""

    step: Usual
    ratio: Usual
    share: Usual


def rows_of(measured: Sequence[Measured]) -> list[Row]:
    """One row a network, in the order given."""
    usual = _usual([one.runs for one in measured])
    return [_row(one, usual) for one in measured]


def backward_to_forward(run: Figures) -> float | None:
    """Backward over forward with its loss, which backward goes through as well; None where either is missing."""
    forward = run.phases_ms.get("forward", 0.0) + run.phases_ms.get("loss", 0.0)
    backward = run.phases_ms.get("backward", 0.0)
    return backward / forward if forward and backward else None


def passes_share(run: Figures) -> float:
    """Share of the step in forward, loss and backward."""
    return sum(run.phases_ms.get(name, 0.0) for name in PASSES) / run.step_ms


def products_share(run: Figures) -> float | None:
    """Share of the step in products of matrices, of whatever shape; None where ops were not recorded."""
    return sum(run.classes_ms.get(name, 0.0) for name in PRODUCTS) / run.step_ms if run.classes_ms else None


def products_flops_share(run: Figures) -> float | None:
    whole = sum(run.classes_flops.values())
    return sum(run.classes_flops.get(name, 0.0) for name in PRODUCTS) / whole if whole else None


def _usual(groups: Sequence[Sequence[Figures]]) -> _Usual:
    steps = [[math.log(run.step_ms) for run in runs] for runs in groups]
    ratios = [[math.log(found) for run in runs if (found := backward_to_forward(run))] for runs in groups]
    shares = [[found for run in runs if (found := products_share(run)) is not None] for runs in groups]
    return _Usual(pooled(steps, USUAL_LOGARITHM), pooled(ratios, USUAL_LOGARITHM), pooled(shares, USUAL_SHARE))


def _row(one: Measured, usual: _Usual) -> Row:
    network, runs = one.network, one.runs
    row = Row(network.name, network.family, network.says, one.size, len(runs), one.failed, one.seconds)
    if not runs:
        return row
    first = runs[0]
    row.parameters, row.batch_size = first.parameters, first.batch_size
    row.steps = sum(run.steps for run in runs)
    row.step_ms = ratio([run.step_ms for run in runs], usual.step)
    row.samples_per_s = _mean([run.samples_per_s for run in runs])
    ratios = [found for run in runs if (found := backward_to_forward(run))]
    row.backward_to_forward = ratio(ratios, usual.ratio) if ratios else None
    row.phases_ms = _means([run.phases_ms for run in runs])
    row.phases = _shares(runs, lambda run: run.phases_ms, usual.share)
    row.passes_share = share([passes_share(run) for run in runs], usual.share)
    row.serial = next((run.serial for run in runs if run.serial), None)
    row.classes = _shares(runs, lambda run: run.classes_ms, usual.share)
    row.input_grad_share = _share_of(runs, lambda run: run.input_grad_ms, usual.share)
    row.weight_grad_share = _share_of(runs, lambda run: run.weight_grad_ms, usual.share)
    products = [found for run in runs if (found := products_share(run)) is not None]
    row.products_share = share(products, usual.share) if products else None
    row.products_flops_share = _mean([products_flops_share(run) for run in runs])
    row.flops = _mean([sum(run.classes_flops.values()) or None for run in runs])
    _add_pole(row, runs)
    _add_bound(row, runs)
    _add_memory(row, runs)
    _add_doubts(row, runs)
    _add_parallel(row, one, usual.step)
    return row


def _add_parallel(row: Row, one: Measured, usual: Usual) -> None:
    row.over_batch = over_batch(one.runs, one.others.get(BATCH, ()), usual)
    row.over_threads = over_threads(one.runs, one.others.get(THREADS, ()), usual)
    row.not_known = dict(one.not_known)


def _add_pole(row: Row, runs: Sequence[Figures]) -> None:
    """The part that most runs name; of several, the longest."""
    found: dict[str, list[float]] = {}
    for run in runs:
        if run.pole_ms is not None:
            found.setdefault(run.pole, []).append(run.pole_ms / run.step_ms)
    if found:
        row.pole, shares = max(found.items(), key=lambda item: (len(item[1]), sum(item[1]) / len(item[1])))
        row.pole_share = sum(shares) / len(shares)


def _add_bound(row: Row, runs: Sequence[Figures]) -> None:
    known = [{name: ms / run.step_ms for name, ms in run.bound_ms.items()} for run in runs if run.bound_ms]
    row.bound = _means(known) if known else None


def _add_memory(row: Row, runs: Sequence[Figures]) -> None:
    sizes = [run.saved_bytes for run in runs if run.saved_bytes is not None]
    row.saved_bytes = max(sizes) if sizes else None
    row.parameters_bytes, row.optimizer_bytes = runs[0].parameters_bytes, runs[0].optimizer_bytes


def _add_doubts(row: Row, runs: Sequence[Figures]) -> None:
    """The worst of the runs: a survey vouches for each of them."""
    accounted = [run.accounted_share for run in runs if run.accounted_share is not None]
    row.accounted_share = min(accounted) if accounted else None
    shares = [run.unclassified_ms / run.step_ms for run in runs if run.classes_ms]
    row.unclassified_share = max(shares) if shares else None
    row.unclassified = sorted({name for run in runs for name in run.unclassified})


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _means(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Name by name; a name that a run does not have took no time there."""
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: sum(table.get(name, 0.0) for table in tables) / len(tables) for name in names}


def _shares(
    runs: Sequence[Figures], table: Callable[[Figures], Mapping[str, float]], usual: Usual
) -> dict[str, Estimate]:
    with_table = [run for run in runs if table(run)]
    names = dict.fromkeys(name for run in with_table for name in table(run))
    return {name: share([table(run).get(name, 0.0) / run.step_ms for run in with_table], usual) for name in names}


def _share_of(runs: Sequence[Figures], ms: Callable[[Figures], float | None], usual: Usual) -> Estimate | None:
    known = [found / run.step_ms for run in runs if (found := ms(run)) is not None]
    return share(known, usual) if known else None
