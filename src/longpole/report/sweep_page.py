"""The sweep as a page: one file that works offline, without script, every name escaped. Pictures are inline SVG."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from longpole.document import plain_page
from longpole.report.figures import DASH, clean, number, percent
from longpole.report.sweep import between, chosen, part, shown, subject, times
from longpole.sweep.sentences import threads

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from longpole.analysis.serial_chain import SerialChain
    from longpole.sweep.result import BatchResult, BatchRow, Sweep, ThreadResult, ThreadRow

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 300, 64, 40, 14, 12
COLOURS = ("#2a6f97", "#b5651d", "#4f772d", "#7b2d8b", "#a4161a", "#5c677d", "#006d77", "#9c6644")
MOST_WAITS = 400
LAYERS_SHOWN = 60
HOW = "Intervals hold 95 %: weighted least squares over runs, Student's t; of ratios by Fieller."
STYLE = """
td:first-child{white-space:pre}tr.step td{font-weight:600}
.pictures{display:flex;flex-wrap:wrap;gap:1.5rem}figure{margin:0}figcaption{font-size:.9rem;opacity:.8}
svg text{font:12px system-ui,sans-serif}svg text:not([fill]){fill:currentColor}
svg .axis{stroke:currentColor;opacity:.35}
.scroll{overflow-x:auto}
"""


@dataclass(frozen=True, slots=True)
class Series:
    """Points, and a line through them where there is a fit."""

    name: str
    points: Sequence[tuple[float, float]]
    line: Sequence[tuple[float, float]] = ()


def sweep_page(sweep: Sweep) -> str:
    """A whole HTML document."""
    title = clean(f"sweep of {sweep.script} · longpole", 120)
    body = "".join(
        (
            f"<h1>{escape(subject(sweep))}</h1>",
            "".join(f"<p>{escape(clean(sentence, 600))}</p>" for sentence in sweep.sentences),
            f'<div class="pictures">{_pictures(sweep)}</div>',
            "".join(_batch_table(result) for result in sweep.by_batch),
            "".join(_thread_table(result) for result in sweep.by_threads),
            _chain(sweep.serial_chain) if sweep.serial_chain else "",
            "".join(f'<p class="doubt">! {escape(clean(warning, 600))}</p>' for warning in sweep.warnings),
            f'<p class="doubt">{escape(HOW)} {escape(_where(sweep))}</p>',
        )
    )
    return plain_page(title, STYLE, body)


def _where(sweep: Sweep) -> str:
    return ", ".join(clean(fact) for fact in (sweep.device, sweep.framework) if fact)


def _pictures(sweep: Sweep) -> str:
    over_batch = [_over_batch(sweep, result) for result in sweep.by_batch]
    found = ""
    if over_batch:
        found += picture("A step, in ms, over the batch", "batch", over_batch)
        each = [
            Series(s.name, [(x, y / x) for x, y in s.points], [(x, y / x) for x, y in s.line if x]) for s in over_batch
        ]
        found += picture("A sample, in ms, over the batch", "batch", each)
    for result in sweep.by_threads[-1:]:
        at = f" at batch {result.batch}" if result.batch is not None else ""
        found += picture(f"A step, in ms, over threads{at}", "threads", [_over_threads(sweep, result)])
    return found


def _over_batch(sweep: Sweep, result: BatchResult) -> Series:
    here = [run for run in sweep.runs if run.threads == result.threads and run.step_ms and run.batch]
    points = [(float(run.batch or 0), run.step_ms or 0.0) for run in here]
    step = result.rows[0]
    ends = min(x for x, _ in points), max(x for x, _ in points)
    line = [(x, step.fixed_ms.value + step.per_sample_ms.value * x) for x in _between(*ends)]
    return Series(threads(result.threads) if result.threads is not None else "step", points, line)


def _over_threads(sweep: Sweep, result: ThreadResult) -> Series:
    here = [run for run in sweep.runs if run.batch == result.batch and run.step_ms and run.threads]
    points = [(float(run.threads or 0), run.step_ms or 0.0) for run in here]
    step = result.rows[0]
    return Series("step", points, [(p, step.serial_ms.value + step.parallel_ms.value / p)
                                   for p in _between(1.0, float(result.most))])  # fmt: skip


def _between(low: float, high: float, steps: int = 48) -> list[float]:
    return [low + (high - low) * at / steps for at in range(steps + 1)]


def picture(title: str, across: str, series: Sequence[Series]) -> str:
    """Points and lines over axes that begin at 0; an empty text where there is nothing to show."""
    points = [point for one in series for point in (*one.points, *one.line)]
    right, top = max((x for x, _ in points), default=0.0), max((y for _, y in points), default=0.0)
    if right <= 0 or top <= 0:
        return ""

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + x / right * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - max(y, 0.0) / (1.05 * top) * (HEIGHT - BOTTOM - TOP),
        )

    parts = [_axes(right, 1.05 * top, across, place(0, 0), sorted({x for one in series for x, _ in one.points}))]
    for at, one in enumerate(series):
        colour = COLOURS[at % len(COLOURS)]
        spots = [place(*point) for point in one.points]
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}" fill-opacity=".7"/>' for x, y in spots]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in one.line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if len(series) > 1:
            name = escape(clean(one.name, 40))
            parts.append(f'<text x="{LEFT + 12}" y="{TOP + 12 + 16 * at}" fill="{colour}">{name}</text>')
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg><figcaption>{escape(title)}</figcaption></figure>"
    )


def _axes(right: float, top: float, across: str, origin: tuple[float, float], ticks: Sequence[float]) -> str:
    x0, y0 = origin
    parts = [
        f'<line class="axis" x1="{x0}" y1="{y0}" x2="{WIDTH - RIGHT}" y2="{y0}"/>',
        f'<line class="axis" x1="{x0}" y1="{y0}" x2="{x0}" y2="{TOP}"/>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(across)}</text>',
    ]
    for height in (0.25, 0.5, 0.75, 1.0):
        y = y0 - height * (y0 - TOP)
        parts.append(f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end">{number(height * top)}</text>')
    last = -100.0
    for tick in ticks:
        x = x0 + tick / right * (WIDTH - RIGHT - x0)
        if x - last > 28:
            parts.append(f'<text x="{x:.1f}" y="{y0 + 16:.1f}" text-anchor="middle">{tick:g}</text>')
            last = x
    return "".join(parts)


def _table(title: str, heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(
        f'<tr class="{escape(kind)}">{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for kind, cells in rows
    )
    return f'<h2>{escape(title)}</h2><div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _batch_table(result: BatchResult) -> str:
    on = f" on {threads(result.threads)}" if result.threads is not None else ""
    heads = ("", "fixed ms", "interval", "ms a sample", "interval", "off line")
    return _table(
        f"Fixed and per sample{on}", heads, ((row.kind, _batch_cells(row)) for row in chosen(result.rows, LAYERS_SHOWN))
    )


def _batch_cells(row: BatchRow) -> list[str]:
    fixed, each = row.fixed_ms, row.per_sample_ms
    off = percent(row.off_line) if row.off_line < 10 else DASH
    return [shown(row), number(fixed.value), between(fixed), number(each.value), between(each), off]


def _thread_table(result: ThreadResult) -> str:
    at = f" at batch {result.batch}" if result.batch is not None else ""
    heads = ("", "serial ms", "parallel ms", "serial share", "interval", f"{result.most} threads gave", "interval",
             "limit beyond")  # fmt: skip
    return _table(
        f"What threads gave{at}", heads, ((row.kind, _thread_cells(row)) for row in chosen(result.rows, LAYERS_SHOWN))
    )


def _thread_cells(row: ThreadRow) -> list[str]:
    share, gained, limit = row.serial_share, row.gained, row.limit
    return [
        shown(row),
        number(row.serial_ms.value),
        number(row.parallel_ms.value),
        part(share),
        between(share, 100) if share else "",
        times(gained),
        between(gained) if gained else "",
        times(limit),
    ]


def _chain(chain: SerialChain) -> str:
    facts = [("layer calls in line", f"{chain.layers} of {chain.of_layers}"),
             ("autograd nodes in line", f"{chain.nodes} of {chain.of_nodes}"),
             ("forward in line, ms", number(chain.forward_ms)), ("backward in line, ms", number(chain.backward_ms)),
             ("in line, ms", number(chain.time_ms)), ("all work, ms", number(chain.work_ms)),
             ("at work at a time", number(chain.parallelism))]  # fmt: skip
    found = _table("The serial chain", ("", ""), (("", pair) for pair in facts))
    waits = [("", (wait.layer, ", ".join(wait.after))) for wait in chain.waits[:MOST_WAITS]]
    return found + (_table("Which layer waits for which", ("layer", "takes the output of"), waits) if waits else "")
