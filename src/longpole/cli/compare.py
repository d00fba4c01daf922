"""`longpole compare`: what changed from one run to another, and whether more than noise did; the guard of a CI."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from longpole.cli.opening import open_paths
from longpole.cli.output import write_text
from longpole.cli.run_folder import check_writable

if TYPE_CHECKING:
    from longpole.analysis.compare import Comparison, Row
    from longpole.analysis.study import Study

SHOWN_SECTIONS = ("phase", "device", "op class", "layer", "op")
STYLES = {"slower": "red", "faster": "green", "not known": "dim", "same": "dim"}


@click.command()
@click.argument("before", metavar="A", type=click.Path(path_type=Path))
@click.argument("after", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--fail-if",
    multiple=True,
    metavar="RULE",
    help="Exit with 1 where B breaks it: 'step>5%', 'phase:data>10ms'. May be repeated.  [default: step>1%]",
)
@click.option("--top", default=6, show_default=True, type=click.IntRange(1), help="Rows of each part of the table.")
@click.option("--json", "json_", metavar="FILE", help="Write the comparison as JSON; - for stdout.")
@click.option(
    "--json-bench",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write B's times in the form of github-action-benchmark (customSmallerIsBetter).",
)
@click.option("-q", "--quiet", is_flag=True, help="Print no table.")
@click.pass_context
def command(ctx: click.Context, before: Path, after: Path, **options: Any) -> None:
    """Compare two runs or traces.

    A and B are studies, run folders, traces or folders of traces. Exit code 1: B is slower beyond noise, or breaks a
    rule of --fail-if; 2: one of them cannot be compared; 0 otherwise.
    """
    from longpole.analysis.compare import compare
    from longpole.analysis.compare_rules import DEFAULT, apply_rules, parse_rules

    rules = parse_rules(options["fail_if"] or (DEFAULT,))
    json_path = Path(options["json_"]) if options["json_"] not in (None, "-") else None
    for name, path in (("json", json_path), ("json-bench", options["json_bench"])):
        if path is not None:
            check_writable(path, f"--{name}")
    studies = open_paths([before]).study, open_paths([after]).study
    found = compare(*studies, names=(str(before), str(after)))
    apply_rules(found, rules)
    if not options["quiet"]:
        _show(found, options["top"])
    _write(found, studies[1], json_path, options)
    ctx.exit(1 if found.failures else 0)


def _write(found: Comparison, after: Study, json_path: Path | None, options: dict[str, Any]) -> None:
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(found), indent=1).decode()
    if options["json_"] == "-":
        sys.stdout.write(text + "\n")
    if json_path is not None:
        write_text(json_path, text)
    if options["json_bench"] is not None:
        write_text(options["json_bench"], json.dumps(bench_rows(after), indent=1))


def bench_rows(study: Study) -> list[dict[str, Any]]:
    """A study's step, phases and op classes as github-action-benchmark takes them: name, unit, value, range."""
    wall = study.step.wall_ms
    rows = [("step", wall.median, wall.low, wall.high)]
    rows += [(f"phase {one.phase}", one.ms, one.low, one.high) for one in study.phases]
    rows += [(f"op class {one.op_class}", one.ms, None, None) for one in study.op_classes]
    return [
        {"name": name, "unit": "ms", "value": value, **_range(low, high)}
        for name, value, low, high in rows
        if value is not None
    ]


def _range(low: float | None, high: float | None) -> dict[str, str]:
    return {} if low is None or high is None else {"range": f"± {(high - low) / 2:.3g}"}


def _show(found: Comparison, top: int) -> None:
    """One sentence, the conditions that differ, the table, the rules; on stderr."""
    from rich.console import Console

    from longpole.report.figures import clean
    from longpole.report.lines import Line, wrap, write_lines

    console = Console(stderr=True)
    width = min(max(console.width, 60), 132)
    lines: list[Line] = [[(text, "bold")] for text in wrap(found.sentence, width, 2)]
    lines += [[(text, "dim")] for text in (f"  A  {clean(found.before)}", f"  B  {clean(found.after)}")]
    lines += [[(text, "yellow")] for warning in found.warnings for text in wrap(warning, width, 4, 2)]
    lines += [[], *_table(found, top, width)]
    lines += [[(text, "red")] for one in found.failures for text in wrap(f"FAIL {one}", width, 4, 2)]
    lines += [[(text, "dim")] for one in found.undecided for text in wrap(one, width, 4, 2)]
    write_lines(lines, console)


def _table(found: Comparison, top: int, width: int) -> list[Any]:
    from longpole.report.lines import Column, table

    columns = [
        Column("", figures=False, stretch=True),
        *map(Column, ("A ms", "B ms", "B - A", "ratio", "95 %")),
        Column("", figures=False),
    ]
    rows = [row for row in found.rows if row.section == "step"]
    cells = [_cells(row, "step") for row in rows]
    styles = [STYLES.get(row.verdict, "") for row in rows]
    for section in SHOWN_SECTIONS:
        some = [row for row in found.rows if row.section == section]
        if not some:
            continue
        cells.append([section, *[""] * 6])
        styles.append("bold")
        for row in some[:top]:
            cells.append(_cells(row, "  " + row.name))
            styles.append(STYLES.get(row.verdict, ""))
        if len(some) > top:
            cells.append([f"  + {len(some) - top} more", *[""] * 6])
            styles.append("dim")
    lines = table(columns, cells, width)
    return [lines[0], *([(text, style) for text, _ in line] for line, style in zip(lines[1:], styles, strict=True)), []]


def _cells(row: Row, name: str) -> list[str]:
    from longpole.report.figures import clean, number

    a, b = number(row.before_ms), number(row.after_ms)
    delta = ("+" if row.delta_ms > 0 else "") + number(row.delta_ms)
    interval = "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
    ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
    return [clean(name, 200), a, b, delta, ratio, interval, row.verdict]
