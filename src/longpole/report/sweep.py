"""The sweep on a terminal: its sentences, then tables of fixed and per-sample cost and of what threads gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from longpole.report.figures import DASH, clean, number, percent
from longpole.report.lines import Column, Line, plain, table, wrapped, write_lines
from longpole.sweep.sentences import threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from longpole.sweep.lines import Figure
    from longpole.sweep.result import BatchResult, BatchRow, Sweep, ThreadResult, ThreadRow

NARROWEST, WIDEST = 60, 132
TOP_LAYERS = 8
LEAST_SHARE = 0.005  # of the step: smaller parts are in the page's data alone
KINDS = ("step", "phase", "op_class")

Row = TypeVar("Row", "BatchRow", "ThreadRow")


def render_sweep(sweep: Sweep, console: Console, more: Sequence[str] = ()) -> None:
    """Writes the report; `more` are last lines, such as where the page is."""
    write_lines(sweep_screen(sweep, console.width, more), console)


def sweep_text(sweep: Sweep, width: int = 100) -> str:
    """The report as plain text."""
    return "\n".join(plain(line) for line in sweep_screen(sweep, width)) + "\n"


def sweep_screen(sweep: Sweep, width: int, more: Sequence[str] = ()) -> list[Line]:
    """The lines of the report, none wider than `width` (at least 60, at most 132 are used)."""
    wide = min(max(width, NARROWEST), WIDEST)
    sections = [
        wrapped(subject(sweep), wide, 2, "dim", first=0),
        [line for sentence in sweep.sentences for line in wrapped(sentence, wide, 2, "bold", first=0)],
        _runs(sweep, wide),
        *(_batch_table(result, wide) for result in sweep.by_batch[-1:]),
        *(_thread_table(result, wide) for result in sweep.by_threads[-1:]),
        _chain(sweep, wide),
        [line for warning in sweep.warnings for line in wrapped(f"! {warning}", wide, 2, first=0)],
        [line for text in more for line in wrapped(text, wide, 2)],
    ]
    out: list[Line] = []
    for section in sections:
        out += [*section, []] if section else []
    return out[:-1]


def subject(sweep: Sweep) -> str:
    """One line: what was swept, where, and over what."""
    axes = [f"{axis.flag or axis.name} {', '.join(map(str, axis.values))}" for axis in sweep.axes]
    good = sum(run.step_ms is not None for run in sweep.runs)
    parts = ["longpole sweep", sweep.script, sweep.model, *axes, f"{good} run{'s' if good != 1 else ''}"]
    return " · ".join(clean(part) for part in parts if part)


def settings_of(sweep: Sweep) -> list[tuple[str, str, list[float]]]:
    """Batch, threads and the step of each run, in the order of size."""
    times: dict[tuple[int, int], list[float]] = {}
    for run in sweep.runs:
        if run.step_ms is not None:
            times.setdefault((run.batch or 0, run.threads or 0), []).append(run.step_ms)
    return [(str(b or ""), str(t or ""), sorted(found)) for (b, t), found in sorted(times.items())]


def _runs(sweep: Sweep, width: int) -> list[Line]:
    rows: list[list[str]] = []
    for batch, count, steps in settings_of(sweep):
        mean = sum(steps) / len(steps)
        each = number(mean / int(batch)) if batch else ""
        span = f"{number(steps[0])} to {number(steps[-1])}" if len(steps) > 1 else ""
        rows.append([batch, count, number(mean), span, each, str(len(steps))])
    names = ("batch", "threads", "step ms", "runs from, to", "ms a sample", "runs")
    return table([Column(name) for name in names], rows, width) if rows else []


def _batch_table(result: BatchResult, width: int) -> list[Line]:
    rows = [[shown(row), *_batch_cells(row)] for row in chosen(result.rows)]
    on = f"on {threads(result.threads)}" if result.threads is not None else ""
    names = (f"over the batch {on}".strip(), "fixed ms", "interval", "ms a sample", "interval", "off line")
    return table([Column(names[0], figures=False), *(Column(name) for name in names[1:])], rows, width)


def _batch_cells(row: BatchRow) -> list[str]:
    fixed, each = row.fixed_ms, row.per_sample_ms
    off = percent(row.off_line) if row.off_line < 10 else DASH
    return [number(fixed.value), between(fixed), number(each.value), between(each), off]


def _thread_table(result: ThreadResult, width: int) -> list[Line]:
    at = f" at batch {result.batch}" if result.batch is not None else ""
    names = (f"over threads{at}", "serial ms", "parallel ms", "serial", "interval", f"{result.most} gave", "limit")
    rows = [[shown(row), *_thread_cells(row)] for row in chosen(result.rows)]
    return table([Column(names[0], figures=False), *(Column(name) for name in names[1:])], rows, width)


def _thread_cells(row: ThreadRow) -> list[str]:
    share = row.serial_share
    return [
        number(row.serial_ms.value),
        number(row.parallel_ms.value),
        part(share),
        between(share, 100) if share else "",
        times(row.gained),
        times(row.limit),
    ]


def part(share: Figure | None) -> str:
    """A serial share; a fit may say more than all, where threads made it slower, or less than nothing."""
    if share is None:
        return DASH
    return "none" if share.value < 0 else "all" if share.value > 1 else percent(share.value)


def times(figure: Figure | None) -> str:
    """How many times as fast; a dash where that has no sensible size."""
    return f"{figure.value:.2f}x" if figure is not None and 0 < figure.value < 100 else DASH


def chosen(rows: Sequence[Row], top: int = TOP_LAYERS) -> list[Row]:
    """Step, phases and op classes, and the layers that weigh most; they come in that order, largest first."""
    large = [row for row in rows if row.mean_ms >= LEAST_SHARE * rows[0].mean_ms]
    return [row for row in large if row.kind in KINDS] + [row for row in large if row.kind == "layer"][:top]


def shown(row: BatchRow | ThreadRow) -> str:
    """The name with its kind told by how far it stands in."""
    return {"step": "", "phase": "  "}.get(row.kind, "    ") + clean(row.name, 60)


def between(figure: Figure, times: float = 1.0) -> str:
    """`11.9 to 12.8`; empty where no interval is known."""
    if figure.low is None and figure.high is None:
        return ""
    ends = [DASH if end is None else number(end * times) for end in (figure.low, figure.high)]
    return f"{ends[0]} to {ends[1]}"


def _chain(sweep: Sweep, width: int) -> list[Line]:
    chain = sweep.serial_chain
    if chain is None or not chain.path:
        return []
    path = list(chain.path)
    if len(path) > 2 * TOP_LAYERS:
        path = [*path[:TOP_LAYERS], f"… {len(path) - 2 * TOP_LAYERS} more …", *path[-TOP_LAYERS:]]
    return wrapped("the chain: " + " → ".join(clean(name, 60) for name in path), width, 4, "dim", first=2)
