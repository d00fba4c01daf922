"""What a gradient costs without backpropagation, as lines of the converge report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.analysis.durations import span
from longpole.report.figures import byte_size, clean, count
from longpole.report.lines import Column, Line, table, wrapped

if TYPE_CHECKING:
    from longpole.analysis.without_backprop_results import Cosine, GradientWay, Race, Racer, WithoutBackprop


def without_backprop_lines(found: WithoutBackprop, width: int) -> list[Line]:
    """The answer, the ways, the bound, the estimates' cosines, the race, the doubts."""
    columns = [Column("one gradient by", figures=False, stretch=True), Column("runs"), Column("a run"), Column("time")]
    columns += [Column("x reverse"), Column("memory"), Column("error"), Column("", figures=False)]
    lines = table(columns, [_way(way) for way in found.ways], width)
    if found.bound is not None:
        lines += wrapped(f"cheap-gradient bound  {found.bound.sentence}", width, 4, first=2)
    if found.cosines:
        lines += [[]]
        columns = [Column("directions"), Column("cosine, forward mode"), Column("cosine, two losses")]
        columns += [Column("theory"), Column("95 % of estimates"), Column("sqrt(k/n)")]
        lines += table(columns, [_cosine(row) for row in found.cosines], width)
    if found.race is not None:
        lines += [[], *race_lines(found.race, width)]
    size = f"{found.parameters:,} parameters in {found.tensors} tensors, batch of {found.batch or 'unknown size'}"
    doubts = [f"{found.network}: {size}; the loss is {found.loss}", *found.notes]
    return lines + [line for note in doubts for line in wrapped(f"* {clean(note, 400)}", width, 4, "dim", first=2)]


def _way(way: GradientWay) -> list[str]:
    extrapolated = way.exact and way.measured < way.evaluations
    return [
        clean(way.name, 40),
        count(way.evaluations),
        _time(way.unit_s),
        _time(way.seconds),
        "" if way.beside_reverse is None else f"{way.beside_reverse:,.3g}",
        "" if way.peak_bytes is None else byte_size(way.peak_bytes),
        "" if way.error is None else f"{way.error:.0e}",
        clean(way.note, 60) if way.seconds is None else ("extrapolated" if extrapolated else ""),
    ]


def _cosine(row: Cosine) -> list[str]:
    return [
        str(row.directions),
        "" if row.forward is None else f"{row.forward:.4f}",
        "" if row.zeroth_order is None else f"{row.zeroth_order:.4f}",
        f"{row.expected:.4f}",
        f"{row.low:.4f} to {row.high:.4f}",
        f"{row.rule_of_thumb:.4f}",
    ]


def race_lines(race: Race, width: int) -> list[Line]:
    """Seconds to the same loss, one row a way of training."""
    lines = wrapped(f"{clean(race.problem, 120)}  {race.sentence}", width, 4, "bold", first=2)
    columns = [Column("to the same loss by", figures=False, stretch=True), Column("rate"), Column("reached")]
    columns += [Column("seconds"), Column("all seeds"), Column("steps"), Column("a step"), Column("memory")]
    return lines + table(columns, [_racer(one) for one in race.racers], width)


def _racer(one: Racer) -> list[str]:
    seconds = sorted(value for value in one.seconds if value is not None)
    steps = sorted(value for value in one.steps if value is not None)
    return [
        one.name,
        "" if one.learning_rate is None else f"{one.learning_rate:g}",
        f"{one.reached} of {one.seeds}",
        "" if one.median_s is None else f"{one.median_s:.3g}",
        f"{seconds[0]:.3g} to {seconds[-1]:.3g}" if seconds else "not reached",
        count(steps[len(steps) // 2]) if steps else "",
        _time(one.step_s),
        "" if one.peak_bytes is None else byte_size(one.peak_bytes),
    ]


def _time(seconds: float | None) -> str:
    return "" if seconds is None else span(seconds, "min")
