"""Memory over one step as a picture for the page: stacked areas by holder, the phases behind, the peak marked.

Plain SVG with every figure in it: no script draws it, and no text in it comes from the script without being escaped.
"""

from __future__ import annotations

from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING

from longpole.analysis.memory_results import HOLDERS
from longpole.report.figures import byte_size, clean
from longpole.report.memorylines import is_whole, peak_sentence, resident_sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.study import Memory, MemoryTimeline

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 960, 260, 80, 40, 12
COLOURS = {
    "parameters": "#4e79a7",
    "gradients": "#b07aa1",
    "optimizer": "#59a14f",
    "inputs": "#edc948",
    "saved": "#f28e2b",
    "recomputed": "#ff9da7",
    "temporaries": "#e15759",
    "workspace": "#9c755f",
    "other": "#9c9c9c",
}
MOST_GROWTH = 20
MOST_LAYERS = 25


def memory_section(memory: Memory) -> str:
    """A `<section>` of HTML; empty where no step's memory is known."""
    timeline = memory.timeline
    if timeline is None or not is_whole(timeline) or len(timeline.ms) < 2:
        return ""
    said = [peak_sentence(memory), resident_sentence(memory) if memory.resident_parts else ""]
    said += [growth.sentence for growth in memory.growth[:MOST_GROWTH]] + memory.notes[:MOST_GROWTH]
    sentences = "".join(f"<p>{escape(clean(text, 600))}</p>" for text in said if text)
    return (
        f'<section id="memory"><h2>Memory over one step</h2>{_svg(timeline)}{_legend(timeline)}{sentences}'
        f"{_holders(memory)}</section>"
    )


def _svg(timeline: MemoryTimeline) -> str:
    names = [name for name in HOLDERS if name in timeline.bytes]
    totals = [sum(values) for values in zip(*(timeline.bytes[name] for name in names), strict=True)]
    top, end = max(*totals, 1), max(timeline.ms[-1], 1e-9)
    xs = [LEFT + at / end * (WIDTH - LEFT - 8) for at in timeline.ms]
    floor = [0] * len(xs)
    areas: list[str] = []
    for name in names:
        ceiling = [low + size for low, size in zip(floor, timeline.bytes[name], strict=True)]
        areas.append(_area(xs, floor, ceiling, top, name))
        floor = ceiling
    peak = totals.index(max(totals))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" aria-label="bytes held over one step">'
        f"{_phases(timeline, xs)}{''.join(areas)}{_axis(top)}"
        f'<line x1="{xs[peak]:.1f}" x2="{xs[peak]:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#d00" '
        f'stroke-dasharray="3 3"/><text x="{min(xs[peak] + 4, WIDTH - 120):.1f}" y="{TOP + 10}" font-size="12" '
        f'fill="#d00">peak {byte_size(max(totals))}</text></svg>'
    )


def _area(xs: Sequence[float], floor: Sequence[int], ceiling: Sequence[int], top: int, name: str) -> str:
    """Steps, not slopes: memory changes at once and stays."""
    upper = _steps(xs, [_y(size, top) for size in ceiling])
    lower = _steps(xs, [_y(size, top) for size in floor])[::-1]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *lower])
    title = f"{name}: at most {byte_size(max(c - f for c, f in zip(ceiling, floor, strict=True)))}"
    return f'<polygon points="{points}" fill="{COLOURS[name]}" fill-opacity="0.85"><title>{title}</title></polygon>'


def _steps(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for at, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if at:
            points.append((x, ys[at - 1]))
        points.append((x, y))
    return points


def _y(size: int, top: int) -> float:
    return HEIGHT - BOTTOM - size / top * (HEIGHT - BOTTOM - TOP)


def _phases(timeline: MemoryTimeline, xs: Sequence[float]) -> str:
    out: list[str] = []
    starts = [0, *(at for at in range(1, len(xs)) if timeline.phase[at] != timeline.phase[at - 1])]
    for number, at in enumerate(starts):
        right = xs[starts[number + 1]] if number + 1 < len(starts) else xs[-1]
        shade = "0.10" if number % 2 else "0.04"
        out.append(
            f'<rect x="{xs[at]:.1f}" y="{TOP}" width="{max(right - xs[at], 0):.1f}" height="{HEIGHT - BOTTOM - TOP}" '
            f'fill="currentColor" fill-opacity="{shade}"/>'
        )
        if right - xs[at] > 50:
            name = escape(clean(timeline.phase[at], 40))
            out.append(f'<text x="{xs[at] + 3:.1f}" y="{HEIGHT - 22}" font-size="12" fill="currentColor">{name}</text>')
    return "".join(out)


def _axis(top: int) -> str:
    marks = [(top, byte_size(top)), (top // 2, byte_size(top // 2)), (0, "0")]
    return "".join(
        f'<text x="{LEFT - 6}" y="{_y(size, top) + 4:.1f}" font-size="11" text-anchor="end" '
        f'fill="currentColor">{text}</text>'
        for size, text in marks
    )


def _legend(timeline: MemoryTimeline) -> str:
    names = [name for name in HOLDERS if name in timeline.bytes]
    widths = list(accumulate([0, *(len(name) * 7 + 40 for name in names)]))
    items = "".join(
        f'<rect x="{LEFT + x}" y="4" width="12" height="12" fill="{COLOURS[name]}"/>'
        f'<text x="{LEFT + x + 17}" y="14" font-size="12" fill="currentColor">{name}</text>'
        for x, name in zip(widths, names, strict=False)
    )
    return f'<svg viewBox="0 0 {WIDTH} 20" width="100%" role="img" aria-label="colours">{items}</svg>'


def _holders(memory: Memory) -> str:
    rows = "".join(
        f"<tr><td>{escape(clean(holder.kind, 40))}</td><td>{escape(clean(holder.layer or '', 120))}</td>"
        f"<td>{byte_size(holder.bytes)}</td></tr>"
        for holder in memory.holders[:MOST_LAYERS]
    )
    left = len(memory.holders) - MOST_LAYERS
    more = f"<p>and {left} smaller ones</p>" if left > 0 else ""
    head = "<tr><th>held at the peak as</th><th>layer</th><th>bytes</th></tr>"
    return f"<table>{head}{rows}</table>{more}"
