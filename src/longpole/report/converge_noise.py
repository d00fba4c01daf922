"""Gradient noise by layer, as lines of the converge report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from longpole.report.figures import clean, count, percent
from longpole.report.lines import Column, Line, bar, table, wrapped

if TYPE_CHECKING:
    from longpole.analysis.noise_results import LayerNoise, NoiseReport

MOST_ROWS = 60  # layers; the JSON has them all
BAR = 10
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 12


def noise_lines(found: NoiseReport, width: int) -> list[Line]:
    """The total, the layers in forward order, the test of depth, the batch, and what was not measured."""
    lines = wrapped("gradient noise by layer, in examples, in the order of the forward pass", width, 4, "dim", first=2)
    rows = [row for row in found.layers if not row.not_covered]
    if rows:
        lines += table(_columns(), [_cells(row, rows) for row in rows[:MOST_ROWS]], width)
        if len(rows) > MOST_ROWS:
            lines += wrapped(f"and {len(rows) - MOST_ROWS} more layers, in the JSON", width, 4, "dim", first=2)
    for test, when in ((found.depth_at_first, "at first"), (found.depth, "later")):
        if test is not None:
            lines += wrapped(f"early layers noisier, {when}?  {test.sentence}", width, 4, first=2)
    if found.advice is not None:
        lines += wrapped(f"batch  {found.advice.sentence}", width, 9, first=2)
        if found.advice.time_source:
            lines += wrapped(f"time of a step: {clean(found.advice.time_source, 300)}", width, 4, "dim", first=2)
    return lines + [line for note in _doubts(found) for line in wrapped(f"* {note}", width, 4, "dim", first=2)]


def _columns() -> list[Column]:
    return [
        Column("layer", figures=False, stretch=True),
        Column("type", figures=False),
        Column("parameters"),
        Column("noise scale"),
        Column("95 %"),
        Column("signal/noise"),
        Column("over time", figures=False),
        Column("noise", figures=False),
    ]


def _cells(row: LayerNoise, rows: list[LayerNoise]) -> list[str]:
    most = max((one.noise_scale or 0.0 for one in rows), default=0.0)
    share = row.noise_scale / most if row.noise_scale is not None and most else None
    return [
        clean(row.path or row.type, 60),
        clean(row.type, 20),
        count(row.parameters),
        "not told" if row.noise_scale is None else f"{row.noise_scale:,.3g}",
        interval(row),
        "" if row.signal_to_noise is None else f"{row.signal_to_noise:.2g}",
        spark(row, rows),
        bar(share, BAR, blocks=True),
    ]


def spark(row: LayerNoise, rows: list[LayerNoise]) -> str:
    """Signal to noise over the sampled steps, all layers on one logarithmic scale; a dot where it is not above 0."""
    every = [value for one in rows for value in one.curve.signal_to_noise if value is not None and value > 0]
    values = row.curve.signal_to_noise
    if not every or not values:
        return ""
    low, high = math.log(min(every)), math.log(max(every))
    picked = [values[at * len(values) // SPARK_WIDTH] for at in range(SPARK_WIDTH)]
    return "".join(
        "·" if value is None or value <= 0 else SPARKS[_level(math.log(value), low, high)] for value in picked
    )


def _level(value: float, low: float, high: float) -> int:
    share = (value - low) / (high - low) if high > low else 0.5
    return min(int(share * len(SPARKS)), len(SPARKS) - 1)


def interval(row: LayerNoise) -> str:
    """`8.2 to 14`; `8.2 or more` where there is no upper end."""
    if row.low is None:
        return ""
    return f"{row.low:,.2g} or more" if row.high is None else f"{row.low:,.2g} to {row.high:,.2g}"


def _doubts(found: NoiseReport) -> list[str]:
    doubts = [*found.notes]
    if found.method != "none":
        how = f"{found.sampled} of {found.steps} steps were sampled, from gradients of {found.part or 0:.3g} and of "
        doubts.insert(0, f"{how}{found.batch} examples ({found.method}); figures are of the later half of them")
    if found.measuring_share is not None:
        doubts.append(f"measuring took {percent(found.measuring_share)} of the training's time; no loss was changed")
    return [clean(doubt, 400) for doubt in doubts]
