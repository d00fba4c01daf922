"""What `longpole converge` says on a terminal: the answer, the table, the curves, the doubts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console

from longpole.report.converge_chart import MARKS, chart
from longpole.report.converge_noise import noise_lines
from longpole.report.converge_without import without_backprop_lines
from longpole.report.figures import clean, count, number, percent
from longpole.report.lines import Column, Line, plain, table, wrapped, write_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.analysis.converge_results import Convergence, Part, Side, Spread

NARROWEST, WIDE, WIDEST = 60, 96, 110

# of each side, of each run: places and values
Curves: TypeAlias = "Sequence[Sequence[tuple[Sequence[float], Sequence[float | None]]]]"


def show(found: Convergence, console: Console | None = None) -> None:
    """Writes the report on stderr: stdout is for JSON."""
    out = console or Console(stderr=True)
    write_lines(screen(found, out.width), out)


def text_report(found: Convergence, width: int = 100) -> str:
    """The report without colour."""
    return "\n".join(plain(line) for line in screen(found, width)) + "\n"


def screen(found: Convergence, width: int) -> list[Line]:
    """The lines of the report; a section that has nothing to say is left out."""
    wide = min(max(width, NARROWEST), WIDEST)
    sections: list[Callable[[Convergence, int], list[Line]]] = [
        _headline,
        _goal,
        _sides,
        _parts,
        _frozen,
        _noise,
        _without_backprop,
        _charts,
        _doubts,
    ]
    out: list[Line] = []
    for section in sections:
        lines = section(found, wide)
        out += [*lines, []] if lines else []
    return out[:-1]


def _headline(found: Convergence, width: int) -> list[Line]:
    return wrapped(found.headline, width, 2, "bold", first=0)


def _goal(found: Convergence, width: int) -> list[Line]:
    if found.metric is None:
        return []
    metric = found.metric
    lines = wrapped(
        f"metric     {metric.name} ({metric.source}); it {metric.direction}, {metric.why}", width, 13, first=2
    )
    if found.target is not None:
        lines += wrapped(f"target     {found.target.value:g}, {found.target.sentence}", width, 13, first=2)
    if found.smoothing is not None:
        lines += wrapped(f"smoothing  {found.smoothing.sentence}", width, 13, first=2)
    if metric.others:
        lines += wrapped(f"--metric   also: {', '.join(metric.others[:8])}", width, 13, "dim", first=2)
    return lines


def _sides(found: Convergence, width: int) -> list[Line]:
    if not found.sides:
        return []
    columns = [Column("", figures=False, stretch=True), Column("reached"), Column("steps"), Column("ms a step")]
    columns += [Column("seconds"), Column("95 %"), Column("best"), Column("all runs")]
    rows = [_side_cells(mark, side, found) for mark, side in zip(_marks(len(found.sides)), found.sides, strict=True)]
    if width < WIDE:  # the interval says more than the ends
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    lines = table(columns, rows, width)
    said = dict.fromkeys(side.seconds.sentence for side in found.sides if side.seconds.sentence)
    return lines + [line for text in said for line in wrapped(f"seconds: {text}", width, 4, "dim", first=2)]


def _marks(sides: int) -> list[str]:
    return [MARKS[at] if sides > 1 and at < len(MARKS) else " " for at in range(sides)]


def _side_cells(mark: str, side: Side, found: Convergence) -> list[str]:
    bests = [run.best for run in side.runs if run.best is not None]
    rises = found.metric is not None and found.metric.direction == "rises"
    best = (max(bests) if rises else min(bests)) if bests else None
    reached = sum(run.reached is not None for run in side.runs)
    return [
        f"{mark} {clean(side.label, 60)}",
        f"{reached} of {len(side.runs)}",
        number(side.steps.mean),
        number(None if side.step_s is None else side.step_s * 1e3),
        number(side.seconds.mean),
        _interval(side.seconds),
        number(best),
        _ends(side.seconds),
    ]


def _interval(spread: Spread) -> str:
    return "" if spread.low is None or spread.high is None else f"{number(max(spread.low, 0))} to {number(spread.high)}"


def _ends(spread: Spread) -> str:
    return "" if spread.least is None or spread.most is None else f"{number(spread.least)} to {number(spread.most)}"


def _parts(found: Convergence, width: int) -> list[Line]:
    compared = found.comparison
    if compared is None:
        return []
    said = f"{compared.after} needed fewer steps on {compared.fewer_steps} of {compared.pairs} seeds."
    fewer = wrapped(said, width, 4, first=2) if compared.fewer_steps is not None and compared.pairs else []
    if compared.seconds is None:
        return fewer
    shown: list[tuple[str, Part | None]] = [
        ("seconds to target", compared.seconds),
        ("  of that: steps", compared.steps),
        ("  of that: seconds a step", compared.step_time),
    ]
    columns = [Column(f"{clean(compared.after, 40)} over {clean(compared.before, 40)}", figures=False, stretch=True)]
    columns += [Column("ratio"), Column("95 %"), Column("log"), Column("p")]
    rows = [
        [name, f"{part.ratio:.3f}", _part_interval(part), f"{part.log:+.3f}", "" if part.p is None else f"{part.p:.2g}"]
        for name, part in shown
        if part is not None
    ]
    return table(columns, rows, width) + fewer + wrapped(compared.method, width, 4, "dim", first=2)


def _part_interval(part: Part) -> str:
    return "" if part.low is None or part.high is None else f"{part.low:.3f} to {part.high:.3f}"


def _frozen(found: Convergence, width: int) -> list[Line]:
    if found.frozen is None:
        return []
    columns = [
        Column("frozen"),
        Column("up to", figures=False, stretch=True),
        Column("parameters"),
        Column("ms a step"),
    ]
    columns += [Column("saved"), Column("reached"), Column("steps"), Column("seconds"), Column("best")]
    rows = [
        [
            str(row.frozen),
            clean(row.last_layer or "", 60),
            count(row.frozen_parameters),
            number(None if row.step_s is None else row.step_s * 1e3),
            percent(row.saving_share) if row.frozen else "",
            f"{row.reached} of {row.runs}",
            number(row.steps),
            number(row.seconds),
            number(row.best),
        ]
        for row in found.frozen.rows
    ]
    return table(columns, rows, width)


def _noise(found: Convergence, width: int) -> list[Line]:
    return noise_lines(found.noise, width) if found.noise is not None else []


def _without_backprop(found: Convergence, width: int) -> list[Line]:
    return without_backprop_lines(found.without_backprop, width) if found.without_backprop is not None else []


def _charts(found: Convergence, width: int) -> list[Line]:
    """Against steps always; against samples and seconds where that is no mere change of scale."""
    if found.metric is None or not found.sides or len(found.sides) > 2:
        return []
    target = found.target.value if found.target else None
    scales = _scales(found)
    first, *others = scales
    if len(found.sides) == 1:
        side = found.sides[0]
        across = f"steps (x {count(side.batch_size)} samples" if side.batch_size else "steps ("
        across += f" x {number((side.step_s or 0) * 1e3)} ms)"
        return chart(first[1], target, across.replace("( x", "(x"), width)
    out: list[Line] = []
    for name, curves in [first, *others]:
        out += [*chart(curves, target, name, width), []]
    return out[:-1]


def _scales(
    found: Convergence,
) -> list[tuple[str, Curves]]:
    """The curves of every side against steps, samples (where the batch is known) and seconds."""
    steps = [[(run.curve.steps, run.curve.smoothed) for run in side.runs] for side in found.sides]
    seconds = [[(run.curve.seconds, run.curve.smoothed) for run in side.runs] for side in found.sides]
    scales: list[tuple[str, Curves]] = [("steps", steps)]
    sizes = [side.batch_size for side in found.sides]
    if len(set(sizes)) > 1 and all(sizes):
        samples = [[([s * (side.batch_size or 0) for s in run.curve.steps], run.curve.smoothed) for run in side.runs]
                   for side in found.sides]  # fmt: skip
        scales.append(("samples", samples))
    return [*scales, ("seconds", seconds)]


def _doubts(found: Convergence, width: int) -> list[Line]:
    doubts = [*found.warnings]
    for side in found.sides:
        prefix = f"{side.label}: " if len(found.sides) > 1 else ""
        doubts += [prefix + note for note in side.notes]
    shares = [run.following_share for side in found.sides for run in side.runs if run.following_share is not None]
    if shares:
        doubts.append(f"following the run cost at most {percent(max(shares))} of a step")
    return [line for text in doubts for line in wrapped(f"* {text}", width, 4, "dim", first=2)]
