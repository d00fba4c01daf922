"""The roofline: in text for a terminal, and as a page that needs nothing but itself."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longpole.machine.ceilings import Ceilings

_LOWEST, _HIGHEST = 1 / 16, 1024.0  # FLOPs a byte


def attainable(ceilings: Ceilings, dtype: str, intensity: float, level: str) -> float | None:
    """FLOP/s that a level's bandwidth and a type's arithmetic allow at so many FLOPs a byte."""
    peak = ceilings.flops_per_s(dtype)
    found = next((each for each in ceilings.levels if each.name == level), None)
    if peak is None or found is None:
        return None
    return min(peak, intensity * found.best_bytes_per_s)


def ridge(ceilings: Ceilings, dtype: str, level: str = "memory") -> float | None:
    """FLOPs a byte from which arithmetic, not this level, is the limit."""
    peak = ceilings.flops_per_s(dtype)
    found = next((each for each in ceilings.levels if each.name == level), None)
    return None if peak is None or found is None else peak / found.best_bytes_per_s


def text_picture(ceilings: Ceilings, dtype: str = "fp32", width: int = 60, height: int = 12) -> list[str]:
    """Lines of a plot, both axes logarithmic: `.` main memory, `o` the nearest cache; "" where nothing is known."""
    peak = ceilings.flops_per_s(dtype)
    if peak is None or not ceilings.levels:
        return []
    names = (ceilings.levels[0].name, ceilings.levels[-1].name)
    bottom = _LOWEST * ceilings.levels[-1].best_bytes_per_s
    span = math.log(peak / bottom) or 1.0
    grid = [[" "] * width for _ in range(height)]
    for name, sign in zip(names, "o.", strict=True):
        for column in range(width):
            intensity = _LOWEST * (_HIGHEST / _LOWEST) ** (column / (width - 1))
            value = attainable(ceilings, dtype, intensity, name) or bottom
            row = round((height - 1) * math.log(value / bottom) / span)
            grid[height - 1 - min(height - 1, max(0, row))][column] = sign
    top, low = (f"{value / 1e9:.4g}" for value in (peak, bottom))
    labels = [f"{top:>8}", *[" " * 8] * (height - 2), f"{low:>8}"]
    lines = [f"{label} |{''.join(row)}" for label, row in zip(labels, grid, strict=True)]
    axis = f"{' ' * 8} +{'-' * width}"
    ends = f"{' ' * 10}1/16{'FLOPs a byte'.center(width - 8)}1024"
    return [f"  GFLOP/s, {dtype}: o {names[0]}, . {names[1]}", *lines, axis, ends]


def svg(ceilings: Ceilings, width: int = 760, height: int = 420) -> str:
    """The same for every type and level, as an SVG element; "" where nothing is known."""
    peaks = {name: ceilings.flops_per_s(name) or 0.0 for name in ceilings.compute}
    if not peaks or not ceilings.levels:
        return ""
    bottom = _LOWEST * min(level.best_bytes_per_s for level in ceilings.levels)
    top = 1.5 * max(peaks.values())

    def x(intensity: float) -> float:
        return 70 + (width - 190) * math.log(intensity / _LOWEST) / math.log(_HIGHEST / _LOWEST)

    def y(value: float) -> float:
        return 20 + (height - 70) * (1 - math.log(max(value, bottom) / bottom) / math.log(top / bottom))

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Roofline">']
    highest = max(peaks.values())
    for level in ceilings.levels:
        knee = min(_HIGHEST, highest / level.best_bytes_per_s)
        start = max(_LOWEST, bottom / level.best_bytes_per_s)
        ends = (x(start), y(start * level.best_bytes_per_s), x(knee), y(knee * level.best_bytes_per_s))
        parts.append('<line class="memory" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(*ends))
        label = f"{level.name} {level.best_bytes_per_s / 1e9:.0f} GB/s"
        parts.append(f'<text x="{ends[0] + 6:.1f}" y="{ends[1] - 6:.1f}">{escape(label)}</text>')
    for name, peak in peaks.items():
        parts.append(f'<line class="compute" x1="70" x2="{width - 120}" y1="{y(peak):.1f}" y2="{y(peak):.1f}"/>')
        parts.append(f'<text x="{width - 114}" y="{y(peak) + 4:.1f}">{escape(name)} {peak / 1e9:.4g} GFLOP/s</text>')
    for power in (-4, -2, 0, 2, 4, 6, 8, 10):
        place = x(2.0**power)
        parts.append(f'<text x="{place:.1f}" y="{height - 28}" text-anchor="middle">{_ratio(power)}</text>')
    parts.append(f'<text x="{width / 2:.0f}" y="{height - 8}" text-anchor="middle">FLOPs a byte</text></svg>')
    return "".join(parts)


def _ratio(power: int) -> str:
    return str(2**power) if power >= 0 else f"1/{2**-power}"


def page(ceilings: Ceilings, rows: list[tuple[str, str, str, str]]) -> str:
    """A whole page: picture and table (what, best, spread, how); no script, nothing loaded."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width"><title>longpole: {escape(ceilings.hardware.processor)}</title>
<style>:root{{color-scheme:light dark}}body{{font:15px system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem}}
svg{{width:100%}}svg text{{font:11px system-ui;fill:currentColor}}line{{stroke-width:1.5}}
.memory{{stroke:#2a6f97}}.compute{{stroke:#b5651d}}table{{border-collapse:collapse}}
td,th{{padding:.2rem .8rem .2rem 0;text-align:left}}</style></head>
<body><h1>{escape(ceilings.hardware.processor)}</h1>
<p>{ceilings.threads} threads, torch {escape(ceilings.torch)}, {escape(ceilings.measured_at)}</p>
{svg(ceilings)}
<table><tr><th>what</th><th>best</th><th>median, quartiles</th><th>how</th></tr>{body}</table></body></html>
"""
