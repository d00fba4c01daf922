"""Curves drawn with characters: one letter a side, on a grid of a terminal's size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from longpole.report.figures import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.report.lines import Line

ROWS = 10
MARKS = "abcdefghij"
STYLES = ("cyan", "magenta", "green", "yellow", "blue", "red")
MARGIN = 9


def chart(
    curves: Sequence[Sequence[tuple[Sequence[float], Sequence[float | None]]]],
    target: float | None,
    across: str,
    width: int,
) -> list[Line]:
    """Curves of each side, every curve as its places and values; a row of dashes stands at the target.

    `across` names the horizontal axis. Where curves of two sides meet, the later side is on top.
    """
    places = [x for side in curves for xs, _ in side for x in xs if math.isfinite(x)]
    values = [y for side in curves for _, ys in side for y in ys if y is not None and math.isfinite(y)]
    if not places or not values:
        return []
    cells = max(width - MARGIN - 4, 20)
    last = max(places) or 1.0
    low, high = _range([*values, *([target] if target is not None else [])])
    grid = [[" "] * cells for _ in range(ROWS)]
    if target is not None:
        grid[_row(target, low, high)] = ["-"] * cells
    for mark, side in zip(MARKS, curves, strict=False):
        for xs, ys in side:
            for x, y in zip(xs, ys, strict=True):
                if y is not None and math.isfinite(y) and math.isfinite(x):
                    column = min(int(max(x, 0.0) / last * (cells - 1)), cells - 1)
                    grid[_row(y, low, high)][column] = mark
    labels = {0: number(high), ROWS - 1: number(low)}
    if target is not None:
        labels[_row(target, low, high)] = number(target)
    lines: list[Line] = [_styled(labels.get(at, ""), cells_of) for at, cells_of in enumerate(grid)]
    axis = f"0{' ' * (cells - 1 - len(number(last)))}{number(last)}"
    return [*lines, [(" " * (MARGIN + 2) + axis, "dim")], [(" " * (MARGIN + 2) + across.center(cells).rstrip(), "dim")]]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From the least value to the 98th percentile: one wild value must not flatten the rest."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[min(int(len(ordered) * 0.98), len(ordered) - 1)]
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _row(value: float, low: float, high: float) -> int:
    share = (min(max(value, low), high) - low) / (high - low)
    return ROWS - 1 - round(share * (ROWS - 1))


def _styled(label: str, cells: Sequence[str]) -> Line:
    line: Line = [(f"{label:>{MARGIN}} |", "dim")]
    for cell in "".join(cells).rstrip():
        place = MARKS.find(cell)
        style = STYLES[place % len(STYLES)] if place >= 0 else "dim"
        if line[-1][1] == style:
            line[-1] = (line[-1][0] + cell, style)
        else:
            line.append((cell, style))
    return line
