"""A survey on a terminal: the long pole of each network, where its step goes, and how parallel it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

from longpole.report import survey_parallel
from longpole.report.figures import DASH, byte_size, clean, count, ms, number, percent
from longpole.report.lines import Column, Line, plain, table, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.analysis.survey import Estimate, Row, Survey
    from longpole.report.survey_parallel import Shown

# Columns of the table: heading, and the phases that it sums. The rest is `other`, so that a row sums to the step.
PHASES = (
    ("data", ("data", "transfer")),
    ("forward", ("forward", "loss")),
    ("backward", ("backward",)),
    ("optim", ("clip", "optimizer")),
)
LONGEST_POLE = 90
LONGEST_NAME = 20
NOTE = (
    "* forward holds its loss, optim the clipping. back/forw: backward over that forward; in brackets where "
    "another survey like this one would find it, 95 times of 100. in grad, wt grad: gradients of inputs and of "
    "weights, of the step. products: matmul, convolution, attention, recurrent, of the step; FLOPs: of all FLOPs. "
    "saved: kept for backward."
)


def text(survey: Survey, width: int, more: Sequence[str] = ()) -> str:
    """The survey as plain text, in lines of at most `width`."""
    return "\n".join(plain(line) for line in screen(survey, width, more)) + "\n"


def screen(survey: Survey, width: int, more: Sequence[str] = ()) -> list[Line]:
    """The lines of the survey; narrow terminals get several tables instead of one. `more` are last lines."""
    measured = [row for row in survey.rows if row.runs]
    lines = wrapped(_subject(survey), width, 2, "dim", first=0)
    if measured:
        lines += [[], *_poles(measured, width)]
        lines += [
            [],
            *_titled("Where a step goes", survey_parallel.known_of(_step_columns(), measured), measured, width),
        ]
        parallel = survey_parallel.columns_of(measured)
        title = "How parallel it is, and how serial"
        lines += [[], *_titled(title, parallel, measured, width)] if parallel else []
    lines += _failures(survey, width) + _notes(measured, width)
    return lines + [line for one in more for line in wrapped(one, width, 4, first=2)]


def _subject(survey: Survey) -> str:
    threads = f", {survey.threads} thread{'s' if survey.threads != 1 else ''}" if survey.threads else ""
    runs = f"{survey.runs} run{'s' if survey.runs != 1 else ''} each"
    return (
        f"longpole survey · {survey.size} networks · {survey.machine or 'unknown machine'}, {survey.cores} cores"
        f"{threads} · {survey.framework or 'torch'} · {runs} · {survey.date}"
    )


def _step_columns() -> list[list[Shown]]:
    """Columns that belong together stay together where the width lets them."""
    return [
        [
            ("batch", lambda row: str(row.batch_size or DASH)),
            ("step", lambda row: ms(row.step_ms.value if row.step_ms else None)),
            ("samples/s", lambda row: number(row.samples_per_s)),
            *((name, _phase(phases)) for name, phases in PHASES),
            ("other", lambda row: whole_percent(other_share(row))),
        ],
        [
            ("back/forw", lambda row: with_interval(row.backward_to_forward)),
            ("in grad", lambda row: _value(row.input_grad_share)),
            ("wt grad", lambda row: _value(row.weight_grad_share)),
            ("products", lambda row: _value(row.products_share)),
            ("FLOPs", lambda row: whole_percent(row.products_flops_share)),
            ("bound by", _bound),
            ("saved", lambda row: byte_size(row.saved_bytes)),
        ],
    ]


def _phase(phases: Sequence[str]) -> Callable[[Row], str]:
    return lambda row: whole_percent(phase_share(row, phases))


def _titled(title: str, groups: Sequence[Sequence[Shown]], rows: Sequence[Row], width: int) -> list[Line]:
    """One table under its title, or as many as the width takes, each with the networks' names."""
    columns = [column for group in groups for column in group]
    cells = [[clean(row.network, LONGEST_NAME), *(shown(row) for _, shown in columns)] for row in rows]
    headings = [Column("network", figures=False), *(Column(name) for name, _ in columns)]
    wide = [max(cell_len(text) for text in (column.heading, *texts)) + 2
            for column, texts in zip(headings, zip(*cells, strict=True), strict=True)]  # fmt: skip
    lines: list[Line] = [[(f"  {title}", "bold")]]
    for at, chosen in enumerate(_parts(wide, [len(group) for group in groups], width)):
        kept = (0, *chosen)
        part = table([headings[k] for k in kept], [[row[k] for k in kept] for row in cells], width)
        lines += [[], *part] if at else part
    return lines


def _parts(wide: Sequence[int], sizes: Sequence[int], width: int) -> list[list[int]]:
    """Columns after the first, as whole groups as fit side by side; a group that is too wide is divided evenly."""
    found: list[list[int]] = []
    at = 1
    for size in sizes:
        group = list(range(at, at + size))
        at += size
        if found and wide[0] + sum(wide[k] for k in found[-1] + group) <= width:
            found[-1] += group
        else:
            found += _divided(wide, group, width)
    return found


def _divided(wide: Sequence[int], group: Sequence[int], width: int) -> list[list[int]]:
    """As few parts as fit, and of these the ones whose widest is narrowest: no column is left alone if it need not."""
    found = _filled(wide, group, width)
    for narrower in range(width - 1, 0, -1):
        other = _filled(wide, group, narrower)
        if len(other) > len(found):
            break
        found = other
    return found


def _filled(wide: Sequence[int], group: Sequence[int], width: int) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for at in group:
        if found[-1] and wide[0] + sum(wide[k] for k in found[-1]) + wide[at] > width:
            found.append([])
        found[-1].append(at)
    return found


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


def whole_percent(share: float | None) -> str:
    """`24 %`: runs differ by more than the decimals would say. What is more than nothing is never `0 %`."""
    return DASH if share is None else f"{number(share * 100, 0)} %"


def _value(estimate: Estimate | None) -> str:
    return whole_percent(estimate.value if estimate else None)


def _bound(row: Row) -> str:
    bound = bound_by(row)
    return f"{bound[0]} {bound[1] * 100:.0f} %" if bound else DASH


def _poles(rows: Sequence[Row], width: int) -> list[Line]:
    lines: list[Line] = [[("  The long pole of each", "bold")]]
    wide = max(cell_len(clean(row.network, LONGEST_NAME)) for row in rows)
    for row in rows:
        name = clean(row.network, LONGEST_NAME)
        parameters = f" · {count(row.parameters)} parameters" if row.parameters else ""
        said = f"{clean(row.pole, LONGEST_POLE)}{parameters}" if row.pole else f"not known{parameters}"
        share = (whole_percent(row.pole_share) if row.pole else DASH).rjust(5)
        head = f"  {name}{' ' * (wide - cell_len(name))}{share}  "
        first, *rest = wrapped(said, width - cell_len(head), 0)
        lines += [[(head, ""), *first], *([(" " * cell_len(head), ""), *line] for line in rest)]
    return lines


def _failures(survey: Survey, width: int) -> list[Line]:
    failed = [row for row in survey.rows if row.failed]
    if not failed:
        return []
    lines: list[Line] = [[], [("  Failed", "bold")]]
    for row in failed:
        lines += wrapped(f"{row.network}: {clean(row.failed or '', 300)}", width, 6, first=4)
    return lines


def _notes(rows: Sequence[Row], width: int) -> list[Line]:
    if not rows:
        return []
    notes = [NOTE, *survey_parallel.notes_of(rows)]
    accounted = [row.accounted_share for row in rows if row.accounted_share is not None]
    unknown = [row.unclassified_share for row in rows if row.unclassified_share is not None]
    if accounted and unknown:
        named, unnamed = percent(min(accounted)), percent(max(unknown))
        notes.append(f"* At least {named} of every step has a name; ops of no known kind take at most {unnamed}.")
    if any(row.bound is None for row in rows):
        notes.append("* What bounds a step is not known: longpole machine measures this machine's ceilings once.")
    return [[], *(line for note in notes for line in wrapped(note, width, 4, "dim", first=2))]
