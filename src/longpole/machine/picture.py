"""The roofline: in text for a terminal, and as a page that needs nothing but itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from longpole.document import plain_page
from longpole.machine.hardware import converts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from longpole.machine.ceilings import Ceilings

_LOWEST, _HIGHEST = 1 / 16, 1024.0  # FLOPs a byte
_POWERS = range(-4, 11, 2)  # of two, marked on the axis
_LEFT = 170.0
_BUSY = 0.1  # of the processors, used by others meanwhile: from there on it is said
_STYLE = """
body{max-width:60rem}svg{width:100%}svg text{font:11px system-ui;fill:currentColor}line{stroke-width:1.5}
.memory{stroke:#4a90b8}.compute{stroke:#c8772e}.grid,.tie{stroke:currentColor;stroke-width:.5;opacity:.3}
div{overflow-x:auto}td,th{padding:.2rem .8rem .2rem 0;text-align:left}td:last-child{white-space:normal}
"""


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


def text_picture(ceilings: Ceilings, dtype: str = "fp32", width: int = 64, height: int = 12) -> list[str]:
    """Lines of a plot, both axes logarithmic: `.` main memory, `o` the nearest cache; "" where nothing is known."""
    peak = ceilings.flops_per_s(dtype)
    if peak is None or not ceilings.levels:
        return []
    names = (ceilings.levels[0].name, ceilings.levels[-1].name)
    bottom = min(_LOWEST * ceilings.levels[-1].best_bytes_per_s, peak / 10)
    span = math.log(peak / bottom)
    grid = [[" "] * width for _ in range(height)]
    for name, sign in zip(names, "o.", strict=True):
        for column in range(width):
            intensity = _LOWEST * (_HIGHEST / _LOWEST) ** (column / (width - 1))
            value = attainable(ceilings, dtype, intensity, name) or bottom
            row = round((height - 1) * math.log(max(value, bottom) / bottom) / span)
            grid[height - 1 - row][column] = sign
    values = (bottom * (peak / bottom) ** (row / (height - 1)) for row in reversed(range(height)))
    labels = [
        f"{value / 1e9:>8.3g}" if row % 3 == 0 or row == height - 1 else " " * 8 for row, value in enumerate(values)
    ]
    lines = [f"{label} |{''.join(row)}" for label, row in zip(labels, grid, strict=True)]
    axis = [" "] * (width + 14)
    for power in _POWERS:
        place = 10 + round((width - 1) * (power - _POWERS[0]) / (_POWERS[-1] - _POWERS[0]))
        axis[place : place + len(_ratio(power))] = _ratio(power)
    ends = "".join(axis).rstrip()
    return [f"  GFLOP/s, {dtype}: o {names[0]}, . {names[1]}", *lines, f"{' ' * 8} +{'-' * width}",
            f"{ends}  FLOPs a byte"]  # fmt: skip


def svg(ceilings: Ceilings, width: int = 860, height: int = 440) -> str:
    """The same for every type and level, as an SVG element; "" where nothing is known."""
    peaks = {name: ceilings.flops_per_s(name) or 0.0 for name in ceilings.compute}
    if not peaks or not ceilings.levels:
        return ""
    highest = max(peaks.values())
    bottom = 0.8 * min(*peaks.values(), _LOWEST * min(level.best_bytes_per_s for level in ceilings.levels))
    plot = _Plot(_LEFT, width - 150.0, 20.0, height - 50.0, bottom, 1.5 * highest)
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Roofline">', *_axes(plot)]
    for level in ceilings.levels:
        knee = min(_HIGHEST, highest / level.best_bytes_per_s)
        ends = (plot.x(_LOWEST), plot.y(_LOWEST * level.best_bytes_per_s), plot.x(knee), plot.y(highest))
        if knee == _HIGHEST:
            ends = (*ends[:3], plot.y(_HIGHEST * level.best_bytes_per_s))
        parts.append('<line class="memory" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(*ends))
    parts += [
        f'<line class="compute" x1="{plot.left}" x2="{plot.right}" y1="{plot.y(peak):.1f}" y2="{plot.y(peak):.1f}"/>'
        for peak in peaks.values()
    ]
    rates = [(level.name, _LOWEST * level.best_bytes_per_s, f"{level.best_bytes_per_s / 1e9:.3g} GB/s")
             for level in ceilings.levels]  # fmt: skip
    parts += _labels([(f"{name} {text}", plot.y(value)) for name, value, text in rates], plot.left, -1)
    units = {name: "GOP/s" if name == "int8" else "GFLOP/s" for name in peaks}
    named = [(f"{name} {peak / 1e9:.3g} {units[name]}", plot.y(peak)) for name, peak in peaks.items()]
    return "".join([*parts, *_labels(named, plot.right, 1), "</svg>"])


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where things are drawn; both axes are logarithmic."""

    left: float
    right: float
    top: float
    bottom: float
    least: float  # FLOP/s at the bottom, and at the top
    most: float

    def x(self, intensity: float) -> float:
        return self.left + (self.right - self.left) * math.log(intensity / _LOWEST) / math.log(_HIGHEST / _LOWEST)

    def y(self, value: float) -> float:
        share = math.log(max(value, self.least) / self.least) / math.log(self.most / self.least)
        return self.bottom - (self.bottom - self.top) * share


def _axes(plot: _Plot) -> Iterator[str]:
    for power in range(math.ceil(math.log10(plot.least)), math.floor(math.log10(plot.most)) + 1):
        y = plot.y(10.0**power)
        yield f'<line class="grid" x1="{plot.left}" x2="{plot.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="44" y="{y + 4:.1f}" text-anchor="end">{10.0 ** (power - 9):g}</text>'
    for power in _POWERS:
        x = plot.x(2.0**power)
        yield f'<text x="{x:.1f}" y="{plot.bottom + 18:.1f}" text-anchor="middle">{_ratio(power)}</text>'
    middle = (plot.left + plot.right) / 2
    yield f'<text x="{middle:.0f}" y="{plot.bottom + 38:.1f}" text-anchor="middle">FLOPs a byte</text>'
    yield f'<text x="8" y="{plot.top - 8:.1f}">GFLOP/s</text>'


def _labels(named: Sequence[tuple[str, float]], x: float, side: int) -> Iterator[str]:
    """Texts beside the plot (-1 left, 1 right), apart from one another, each tied to its line."""
    lowest = -math.inf
    for text, y in sorted(named, key=lambda each: each[1]):
        place = max(y, lowest + 14)
        lowest = place
        end = x + 12 * side
        anchor = "end" if side < 0 else "start"
        yield f'<line class="tie" x1="{x}" y1="{y:.1f}" x2="{end}" y2="{place:.1f}"/>'
        yield f'<text x="{end + 3 * side}" y="{place + 4:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _ratio(power: int) -> str:
    return str(2**power) if power >= 0 else f"1/{2**-power}"


def page(ceilings: Ceilings, rows: list[tuple[str, str, str, str]]) -> str:
    """A whole page: picture and table (what, best, spread, how); no script, nothing loaded."""
    missing = [(what, "not measured", "", why) for what, why in ceilings.not_measured.items()]
    cells = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in (*rows, *missing))
    body = f"""<h1>Ceilings of {escape(ceilings.hardware.processor)}</h1>
<p>{threads_of(ceilings)}, torch {escape(ceilings.torch)}, measured {escape(ceilings.measured_at)}</p>
{"".join(f"<p>{escape(remark)}</p>" for remark in remarks(ceilings))}
{svg(ceilings)}
<div><table><tr><th>what</th><th>best</th><th>median (quartiles)</th><th>measured on</th></tr>{cells}</table></div>"""
    return plain_page(f"longpole: {ceilings.hardware.processor}", _STYLE, body)


def threads_of(ceilings: Ceilings) -> str:
    return f"{ceilings.threads} thread{'' if ceilings.threads == 1 else 's'}"


def remarks(ceilings: Ceilings) -> Iterator[str]:
    """What to know when reading them."""
    knee = ridge(ceilings, "fp32")
    if knee is not None:
        yield f"An fp32 operation on main memory needs over {knee:.3g} FLOPs a byte to be limited by arithmetic."
    slow = [name for name in ceilings.compute if ceilings.device == "cpu" and converts(ceilings.hardware, name)]
    if slow:
        yield f"This processor has no arithmetic of {', '.join(slow)}: torch converts, or multiplies one by one."
    if ceilings.busy_share is not None and ceilings.busy_share > _BUSY:
        yield f"Other processes used {ceilings.busy_share:.0%} of the processors meanwhile: run it again with --again."
