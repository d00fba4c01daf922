"""Signal to noise of each layer over the training, as inline SVG: no script, nothing fetched, everything escaped."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from longpole.report.figures import clean

if TYPE_CHECKING:
    from longpole.analysis.noise_results import LayerNoise, NoiseReport

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 40
MOST_LINES = 60


def noise_figure(found: NoiseReport | None) -> str:
    """One line a layer, blue for the first and red for the last; empty where nothing was measured."""
    rows = [row for row in found.layers if not row.not_covered][:MOST_LINES] if found is not None else []
    values = [value for row in rows for value in row.curve.signal_to_noise if value is not None and value > 0]
    if not values:
        return ""
    last = max(step for row in rows for step in row.curve.steps) or 1
    low, high = math.log10(min(values)), math.log10(max(values))
    if high - low < 0.1:
        low, high = low - 0.5, high + 0.5
    lines = "".join(_line(row, at / max(len(rows) - 1, 1), last, low, high) for at, row in enumerate(rows))
    return (
        "<figure><figcaption>signal to noise of a batch, by layer: first blue, last red</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">'
        f"{_axes(last, low, high)}{lines}</svg></figure>"
    )


def _line(row: LayerNoise, share: float, last: int, low: float, high: float) -> str:
    points = " ".join(
        f"{LEFT + step / last * (WIDTH - LEFT - RIGHT):.1f},{_y(math.log10(value), low, high):.1f}"
        for step, value in zip(row.curve.steps, row.curve.signal_to_noise, strict=True)
        if value is not None and value > 0
    )
    colour = f"hsl({230 + 130 * share:.0f} 70% 50%)"
    name = escape(clean(row.path or row.type, 80))
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"><title>{name}</title></polyline>'
    )


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _axes(last: int, low: float, high: float) -> str:
    out = [f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 18}" text-anchor="end">step {last}</text>']
    for tick in range(5):
        value = low + tick / 4 * (high - low)
        y = _y(value, low, high)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8884"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10**value:.2g}</text>')
    return "".join(out)
