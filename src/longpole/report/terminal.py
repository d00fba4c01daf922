"""The report on a terminal: answer, proof, remedy, doubt, where to look.

`screen` makes plain lines; `render` writes them. Eighty columns are enough, colour is never needed, and a
stream that cannot carry block characters gets ASCII.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

from longpole.report import devicelines, layertree, memorylines, summary
from longpole.report.figures import (
    byte_size,
    clean,
    count,
    decimals_for,
    for_encoding,
    known,
    ms,
    number,
    percent,
    shorten,
)
from longpole.report.lines import Column, Line, bar, fit, plain, table, wrap, wrapped, write_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from longpole.analysis.study import LayerTime, PhaseTime, Study

NARROWEST, WIDEST = 60, 132
PHASE_STYLES = {
    "data": "yellow",
    "transfer": "yellow",
    "forward": "blue",
    "loss": "cyan",
    "backward": "magenta",
    "clip": "red",
    "optimizer": "green",
    "communication": "red",
    "evaluation": "cyan",
    "checkpoint": "yellow",
}
LEAST_PHASE_CELLS = 12  # for the name of a phase and the space behind it
ANSWER_STYLES = {"yes": "bold", "partly": "bold", "no": "", "not known": "dim"}


def render(
    study: Study,
    console: Console,
    *,
    layers: bool = False,
    top: int = 8,
    ranks: bool = False,
    more: Sequence[str] = (),
) -> None:
    """Writes the report of a study; `more` are last lines, such as the next command to type.

    `layers` adds the module tree, `ranks` shows every rank, `top` limits each list.
    """
    blocks = for_encoding("█▏", console.encoding) == "█▏"
    lines = screen(study, console.width, layers=layers, top=top, ranks=ranks, blocks=blocks, more=more)
    write_lines(lines, console)


def screen(
    study: Study,
    width: int,
    *,
    layers: bool = False,
    top: int = 8,
    ranks: bool = False,
    blocks: bool = True,
    more: Sequence[str] = (),
) -> list[Line]:
    """The lines of the report, none wider than `width` (at least 60, at most 132 are used)."""
    wide = min(max(width, NARROWEST), WIDEST)
    sections: list[Callable[[], list[Line]]] = [
        lambda: _headline(study, wide),
        lambda: _step(study, wide) + _phases(study, wide, blocks),
        lambda: _answers(study, wide),
        lambda: _findings(study, wide, top),
        lambda: _op_classes(study, wide, top),
        lambda: _unclassified(study, wide, top),
        lambda: _layers(study, wide, top) if layers else [],
        lambda: devicelines.ranks(study, wide, len(study.ranks) if ranks else top),
        lambda: devicelines.gaps(study, wide),
        lambda: devicelines.compared(study, wide),
        lambda: devicelines.communication(study, wide, top),
        lambda: devicelines.critical_path(study, wide),
        lambda: memorylines.memory(study, summary.memory_items(study), wide, blocks=blocks),
        lambda: _doubts(study, wide),
        lambda: [line for text in more for line in wrapped(text, wide, 2)],
    ]
    out: list[Line] = []
    for section in sections:
        found = section()
        out += [*found, []] if found else []
    return out[:-1]


def text_report(study: Study, width: int = 100, *, layers: bool = True, top: int = 20) -> str:
    """The report as plain text, for a file."""
    return "\n".join(plain(line) for line in screen(study, width, layers=layers, top=top, ranks=True)) + "\n"


def _headline(study: Study, width: int) -> list[Line]:
    lines = wrapped(summary.subject(study), width, 2, "dim", first=0)
    said = study.headline or "What takes longest is not known: no step was measured."
    return lines + wrapped(said, width, 2, "bold", first=0)


def _step(study: Study, width: int) -> list[Line]:
    lines: list[Line] = []
    current = "  " + fit("step", 12)
    for item in summary.step_items(study):
        text = clean(item)
        if plain([(current, "")]) != "  step" and cell_len(current) + 4 + cell_len(text) > width:
            lines.append([(current.rstrip(), "")])
            current = " " * 14 + text
        else:
            current = current + ("" if current.endswith("  ") else "    ") + text
    lines.append([(current, "")])
    said = summary.uneven(study)
    return lines + (wrapped(said, width, 14, "dim") if said else [])


def _phases(study: Study, width: int, blocks: bool) -> list[Line]:
    whole = summary.whole_ms(study)
    places = decimals_for(whole)
    shown = [phase for phase in study.phases if phase.ms != 0]
    if not shown:
        return []
    figures = [(ms(phase.ms, places), percent(phase.share)) for phase in shown]
    widths = [max(cell_len(f[k]) for f in figures) for k in (0, 1)]
    cells = 24 if width >= 100 else 16
    name_cells = max(LEAST_PHASE_CELLS, *(cell_len(clean(phase.phase)) + 1 for phase in shown))
    out: list[Line] = []
    for phase, (time, share) in zip(shown, figures, strict=True):
        line: Line = [("  " + fit(clean(phase.phase), name_cells), "")]
        line.append((bar(phase.share, cells, blocks), PHASE_STYLES.get(phase.phase, "dim")))
        line.append((f"  {fit(time, widths[0], right=True)}  {fit(share, widths[1], right=True)}", ""))
        out += _with_note(line, clean(summary.phase_note(study, phase, places)), phase, width)
    return out


def _with_note(line: Line, note: str, phase: PhaseTime, width: int) -> list[Line]:
    """The note beside the figures; beneath them where it is a sentence that does not fit, cut where a place."""
    if not note:
        return [line]
    room = width - cell_len(plain(line)) - 3
    if cell_len(note) > room and (phase.note or phase.phase == "backward"):
        return [line, *wrapped(note, width, 14, "dim")]
    if cell_len(note) > room:  # of a place, the file and the line say more than the folders
        note = note.rpartition("/")[2]
    return [[*line, ("   " + shorten(note, room), "dim")]] if room >= 12 else [line]


def _answers(study: Study, width: int) -> list[Line]:
    if not study.answers:
        return []
    asked = [clean(answer.question) for answer in study.answers]
    column = min(max(cell_len(text) for text in asked), 44 if width >= 96 else 34)
    out: list[Line] = []
    for text, answer in zip(asked, study.answers, strict=True):
        left = wrap(text, column) or [""]
        right = wrap(summary.answer_text(answer), width - column - 4) or [""]
        for i in range(max(len(left), len(right))):
            question, said = left[i] if i < len(left) else "", right[i] if i < len(right) else ""
            out.append([("  " + fit(question, column) + "  ", ""), (said, ANSWER_STYLES.get(answer.answer, ""))])
    return out


def _findings(study: Study, width: int, top: int) -> list[Line]:
    out: list[Line] = []
    for finding in study.findings[:top]:
        saving = (
            f" Saves up to {ms(finding.saving_ms)} a step"
            if known(finding.saving_ms)
            else " What it saves is not known"
        )
        out += wrapped(f"- {finding.sentence}{saving} (confidence: {finding.confidence}).", width, 4, first=2)
        out += wrapped(f"try: {finding.try_}", width, 6, "dim", first=4) if finding.try_ else []
    if len(study.findings) > top:
        out.append([(f"  + {len(study.findings) - top} more", "dim")])
    return [[("  What would make it faster", "bold")], *out] if out else []


def _op_classes(study: Study, width: int, top: int) -> list[Line]:
    classes = [c for c in study.op_classes if c.ms != 0]
    if not classes:
        return []
    places = decimals_for(summary.whole_ms(study)) + 1
    flops = summary.whole_flops(study)
    ranked = sorted(classes, key=lambda c: -c.ms if known(c.ms) else 0.0)
    rows = [
        [
            clean(c.op_class),
            ms(c.ms, places),
            percent(c.share),
            _part(c.forward_ms, places),
            _part(c.backward_ms, places),
            percent(c.flops / flops) if c.flops is not None and known(c.flops) and flops > 0 else "",
            percent(c.bound_ms / c.ms) if c.bound_ms is not None and known(c.bound_ms) and c.ms > 0 else "",
        ]
        for c in ranked[: max(top, 1)]
    ]
    columns = [Column("kind of work", figures=False, stretch=True), *map(Column, OP_CLASS_HEADINGS)]
    lines = table(columns, rows, width)
    rest = ranked[max(top, 1) :]
    return lines + ([[(f"  + {len(rest)} smaller, {ms(sum(c.ms for c in rest), places)}", "dim")]] if rest else [])


OP_CLASS_HEADINGS = ("time", "of step", "forward", "backward", "of FLOPs", "of ceiling")


def _part(value: float | None, places: int) -> str:
    return number(value, places) if known(value) else ""


def _unclassified(study: Study, width: int, top: int) -> list[Line]:
    found = summary.unclassified(study)
    if not found:
        return []
    total, whole = sum(time for _, time in found), summary.whole_ms(study)
    part = f", {percent(total / whole)}" if whole else ""
    names = ", ".join(f"{clean(name, 60)} {ms(time)}" for name, time in found[:top])
    more = f", + {len(found) - top} more" if len(found) > top else ""
    return wrapped(f"Of no known kind ({ms(total)}{part}): {names}{more}", width, 4, first=2)


LAYER_HEADINGS = ("forward", "in grad", "wt grad", "recomp", "optim", "total", "share", "saved", "FLOPs")


def _layers(study: Study, width: int, top: int) -> list[Line]:
    if not study.layers:
        return wrapped("No layer is known.", width, 2)
    places = decimals_for(summary.whole_ms(study))
    rows = [_layer_cells(row, places + 1) for row in layertree.rows(study.layers, top)]
    columns = [Column("layer (ms a step)", figures=False, stretch=True), *map(Column, LAYER_HEADINGS)]
    if width < 100:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return table(columns, rows, width)


def _layer_cells(row: layertree.TreeRow, places: int) -> list[str]:
    closed = f" ({row.folded})" if row.folded and row.time is not None else ""
    label = "  " * min(row.depth, 12) + clean(row.label) + closed
    if row.time is None:
        return [label, *[""] * 5, number(row.total_ms, places), "", "", ""]
    t = row.time
    times = [t.forward_ms, *_gradients(t), t.optimizer_ms, t.total_ms]
    cells = [number(value, places) if known(value) else "–" for value in times]
    cells.insert(3, _part(t.recompute_ms, places) if t.recompute_ms else "")
    saved = byte_size(t.saved_bytes) if t.saved_bytes is not None else ""
    return [label, *cells, percent(t.share), saved, count(t.flops) if known(t.flops) else ""]


def _gradients(t: LayerTime) -> tuple[float | None, float | None]:
    return t.input_grad_ms, t.weight_grad_ms


def _doubts(study: Study, width: int) -> list[Line]:
    return [line for text in summary.doubts(study) for line in wrapped(f"* {text}", width, 4, "dim", first=2)]
