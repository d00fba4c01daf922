"""The page of `longpole converge`: curves as inline SVG, one file, no script, nothing fetched, everything escaped."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from longpole.document import plain_page
from longpole.report.converge import text_report
from longpole.report.converge_noise_chart import noise_figure
from longpole.report.figures import clean, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.converge_results import Convergence, SeedRun, Side

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 40
COLOURS = ("#0b7285", "#c2255c", "#2b8a3e", "#e67700", "#364fc7", "#862e9c", "#5c940d", "#d9480f", "#087f5b", "#495057")
TICKS = 5
STYLE = """
body{max-width:1340px}
h1{line-height:1.35}
figure{display:inline-block;margin:0 1rem 1rem 0;max-width:100%}
figcaption{font-weight:600}
svg{max-width:100%;height:auto}
text{fill:currentColor;font-size:12px}
pre{overflow-x:auto;font-size:13px;line-height:1.35}
.key span{margin-right:1.2rem}
""" + "".join(f".side{at}{{color:{colour}}}" for at, colour in enumerate(COLOURS))


def page(found: Convergence) -> str:
    """A whole HTML document."""
    title = clean(f"{found.sides[0].script if found.sides else 'training'} · longpole converge", 120)
    figures = "".join(_figure(found, name, unit) for name, unit in (("steps", ""), ("samples", ""), ("seconds", " s")))
    body = f"""<h1>{escape(clean(found.headline, 1000))}</h1>
{_key(found)}
{figures}
{noise_figure(found.noise)}
<pre>{escape(text_report(found))}</pre>"""
    return plain_page(title, STYLE, body)


def _key(found: Convergence) -> str:
    parts = [
        f'<span><b class="side{at % len(COLOURS)}">━</b> {escape(clean(side.label, 80))}</span>'
        for at, side in enumerate(found.sides)
    ]
    return f'<p class="key">{"".join(parts)}</p>' if len(parts) > 1 else ""


def _figure(found: Convergence, across: str, unit: str) -> str:
    """One plot: smoothed values as lines, unsmoothed ones faint, the target dashed, a dot where it is reached."""
    if not found.sides or (across == "samples" and not all(side.batch_size for side in found.sides)):
        return ""
    values = [y for side in found.sides for run in side.runs for y in run.curve.smoothed if y is not None]
    places = [x for side in found.sides for run in side.runs for x in _places(run, side, across)]
    if not values or not places:
        return ""
    goal = found.target.value if found.target else None
    scale = _Scale(max(places) or 1.0, *_ends([*values, *([goal] if goal is not None else [])]))
    drawn = [_axes(scale, unit), _target(goal, scale)]
    for at, side in enumerate(found.sides):
        colour = COLOURS[at % len(COLOURS)]
        drawn += [_run(run, _places(run, side, across), side, across, colour, scale) for run in side.runs]
    name = escape(clean(found.metric.name if found.metric else "metric", 60))
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return (
        f"<figure><figcaption>{name} against {across}</figcaption>"
        f'<svg {size} role="img">{"".join(drawn)}</svg></figure>'
    )


class _Scale:
    """From a place and a value to a point of the picture."""

    def __init__(self, last: float, low: float, high: float) -> None:
        self.last, self.low, self.high = last, low, high

    def x(self, place: float) -> float:
        return LEFT + max(place, 0.0) / self.last * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(value for value in values if math.isfinite(value))
    low, high = ordered[0], ordered[min(int(len(ordered) * 0.995), len(ordered) - 1)]
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _places(run: SeedRun, side: Side, across: str) -> list[float]:
    if across == "seconds":
        return run.curve.seconds
    factor = (side.batch_size or 1) if across == "samples" else 1
    return [float(step * factor) for step in run.curve.steps]


def _axes(scale: _Scale, unit: str) -> str:
    out: list[str] = []
    for tick in range(TICKS):
        share = tick / (TICKS - 1)
        value, place = scale.low + share * (scale.high - scale.low), share * scale.last
        y, x = scale.y(value), scale.x(place)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8884"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(number(value))}</text>')
        anchor = "end" if tick == TICKS - 1 else "middle"
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - 18}" text-anchor="{anchor}">{escape(number(place) + unit)}</text>')
    return "".join(out)


def _target(goal: float | None, scale: _Scale) -> str:
    if goal is None:
        return ""
    y = scale.y(goal)
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
        'stroke="currentColor" stroke-dasharray="5 4"/>'
        f'<text x="{WIDTH - RIGHT - 4}" y="{y - 4:.1f}" text-anchor="end">target {escape(f"{goal:g}")}</text>'
    )


def _run(run: SeedRun, places: Sequence[float], side: Side, across: str, colour: str, scale: _Scale) -> str:
    raw = _line(places, run.curve.values, scale, f'stroke="{colour}" stroke-opacity=".18"')
    line = _line(places, run.curve.smoothed, scale, f'stroke="{colour}" stroke-width="1.6"')
    if run.reached is None:
        return raw + line
    place = run.reached.seconds if across == "seconds" else float(run.reached.step)
    place *= (side.batch_size or 1) if across == "samples" else 1
    return (
        raw + line + f'<circle cx="{scale.x(place):.1f}" cy="{scale.y(run.reached.value):.1f}" r="4" fill="{colour}"/>'
    )


def _line(places: Sequence[float], values: Sequence[float | None], scale: _Scale, how: str) -> str:
    points = " ".join(
        f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in zip(places, values, strict=True) if y is not None
    )
    return f'<polyline fill="none" {how} points="{points}"/>'
