"""A survey on a terminal: one table, the long pole of each network beneath, and what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

from longpole.report.figures import DASH, byte_size, clean, count, ms, number, percent
from longpole.report.lines import Column, Line, plain, table, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.survey import Estimate, Row, Survey

# Columns of the table: heading, and the phases that it sums. The rest is `other`, so that a row sums to the step.
PHASES = (
    ("data", ("data", "transfer")),
    ("forward", ("forward", "loss")),
    ("backward", ("backward",)),
    ("optim", ("clip", "optimizer")),
)
BOUNDS = ("compute", "memory", "host", "outside", "unknown")
LONGEST_POLE = 90
BRACKETS = (
    "* back/forw: backward over forward with its loss; in brackets where another survey like this one would find "
    "it, 95 times of 100. products: matmul, convolution, attention, recurrent."
)


def text(survey: Survey, width: int) -> str:
    """The survey as plain text, in lines of at most `width`."""
    return "\n".join(plain(line) for line in screen(survey, width)) + "\n"


def screen(survey: Survey, width: int) -> list[Line]:
    """The lines of the survey; narrow terminals get two tables instead of one."""
    measured = [row for row in survey.rows if row.runs]
    lines = wrapped(_subject(survey), width, 2, "dim", first=0)
    if measured:
        lines += [*_tables(measured, width), [], *_poles(measured, width)]
    return lines + _failures(survey, width) + _notes(survey, width)


HEADINGS = (
    "step", "samples/s", *(heading for heading, _ in PHASES), "other", "back/forw", "in grad", "wt grad", "products",
    "of FLOPs", "bound by", "saved",
)  # fmt: skip


def _subject(survey: Survey) -> str:
    threads = f", {survey.threads} threads" if survey.threads else ""
    runs = f"{survey.runs} run{'s' if survey.runs != 1 else ''} each"
    return (
        f"longpole survey · {survey.size} networks · {survey.machine or 'unknown machine'}, {survey.cores} cores"
        f"{threads} · {survey.framework or 'torch'} · {runs} · {survey.date}"
    )


def _tables(rows: Sequence[Row], width: int) -> list[Line]:
    """One table, or as many as the width takes, each with the networks' names."""
    cells = [[clean(row.network, 20), *_time_cells(row), *_work_cells(row)] for row in rows]
    columns = [Column("network", figures=False), *map(Column, HEADINGS)]
    wide = [max(cell_len(text) for text in (column.heading, *texts)) + 2
            for column, texts in zip(columns, zip(*cells, strict=True), strict=True)]  # fmt: skip
    lines: list[Line] = []
    chosen: list[int] = []
    for at in range(1, len(columns)):
        if chosen and wide[0] + sum(wide[k] for k in chosen) + wide[at] > width:
            lines += [[], *_part(columns, cells, chosen, width)]
            chosen = []
        chosen.append(at)
    return [*lines, [], *_part(columns, cells, chosen, width)]


def _part(columns: Sequence[Column], cells: Sequence[Sequence[str]], chosen: Sequence[int], width: int) -> list[Line]:
    kept = (0, *chosen)
    return table([columns[k] for k in kept], [[row[k] for k in kept] for row in cells], width)


def phase_share(row: Row, phases: Sequence[str]) -> float:
    """Share of the step in these phases together."""
    return sum(row.phases[name].value for name in phases if name in row.phases)


def other_share(row: Row) -> float:
    """Share of the step in no column of the table."""
    shown = {name for _, phases in PHASES for name in phases}
    return sum(estimate.value for name, estimate in row.phases.items() if name not in shown)


def bound_by(row: Row) -> tuple[str, float] | None:
    """What bounds most of the step, and the share that it bounds; None where no ceilings were measured."""
    if not row.bound:
        return None
    name = max(row.bound, key=lambda name: row.bound[name] if row.bound else 0.0)
    return name, row.bound[name]


def with_interval(estimate: Estimate | None) -> str:
    """`1.98 (1.91–2.05)`."""
    if estimate is None:
        return DASH
    if estimate.low is None or estimate.high is None:
        return number(estimate.value, 2)
    return f"{estimate.value:.2f} ({estimate.low:.2f}–{estimate.high:.2f})"


def _time_cells(row: Row) -> list[str]:
    return [
        ms(row.step_ms.value if row.step_ms else None),
        number(row.samples_per_s),
        *(percent(phase_share(row, phases)) for _, phases in PHASES),
        percent(other_share(row)),
        with_interval(row.backward_to_forward),
    ]


def _work_cells(row: Row) -> list[str]:
    bound = bound_by(row)
    return [
        _percent_of(row.input_grad_share),
        _percent_of(row.weight_grad_share),
        _percent_of(row.products_share),
        percent(row.products_flops_share),
        f"{bound[0]} {bound[1] * 100:.0f} %" if bound else DASH,
        byte_size(row.saved_bytes),
    ]


def _percent_of(estimate: Estimate | None) -> str:
    return percent(estimate.value if estimate else None)


def _poles(rows: Sequence[Row], width: int) -> list[Line]:
    lines: list[Line] = [[("  The long pole of each", "bold")]]
    for row in rows:
        parameters = f", {count(row.parameters)} parameters" if row.parameters else ""
        said = f"{percent(row.pole_share)} {clean(row.pole, LONGEST_POLE)}" if row.pole else "not known"
        lines += wrapped(f"{row.network}: {said}{parameters}", width, 6, first=4)
    return lines


def _failures(survey: Survey, width: int) -> list[Line]:
    failed = [row for row in survey.rows if row.failed]
    if not failed:
        return []
    lines: list[Line] = [[], [("  Failed", "bold")]]
    for row in failed:
        lines += wrapped(f"{row.network}: {clean(row.failed or '', 300)}", width, 6, first=4)
    return lines


def _notes(survey: Survey, width: int) -> list[Line]:
    rows = [row for row in survey.rows if row.runs]
    if not rows:
        return []
    notes = [BRACKETS]
    accounted = [row.accounted_share for row in rows if row.accounted_share is not None]
    unknown = [row.unclassified_share for row in rows if row.unclassified_share is not None]
    if accounted and unknown:
        notes.append(f"* At least {percent(min(accounted))} of every step has a name; of no known kind are at most "
                     f"{percent(max(unknown))}.")  # fmt: skip
    if any(row.bound is None for row in rows):
        notes.append("* What bounds a step is not known: longpole machine measures this machine's ceilings once.")
    return [[], *(line for note in notes for line in wrapped(note, width, 4, "dim", first=2))]
