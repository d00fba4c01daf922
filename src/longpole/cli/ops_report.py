"""Where `longpole ops` writes what it found: terminal, JSON, CSV, page, document. Places are looked at beforehand."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from longpole.cli.output import write_or_print
from longpole.cli.run_folder import check_writable
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.bench.published import Published
    from longpole.bench.results import Results, Row

_PLACES = ("json", "csv", "html", "markdown")


def check_places(options: dict[str, Any]) -> None:
    """LongpoleError where a report could not be written: told before minutes are spent on measuring."""
    to_stdout = [f"--{name}" for name in _PLACES if options[f"{name}_path"] == "-"]
    if len(to_stdout) > 1:
        raise LongpoleError(f"{' and '.join(to_stdout)} cannot share stdout; give one of them a FILE")
    for name in _PLACES:
        if options[f"{name}_path"] not in (None, "-"):
            check_writable(Path(options[f"{name}_path"]), f"--{name}")


def publish(results: Results, options: dict[str, Any]) -> None:
    """Writes every report asked for, and the table to stderr."""
    from longpole.bench.markdown import markdown
    from longpole.bench.results import to_csv, to_json
    from longpole.bench.tables import page

    pairs = _beside(results, options)
    if options["json_path"]:
        write_or_print(options["json_path"], to_json(results))
    if options["csv_path"]:
        write_or_print(options["csv_path"], to_csv(results.rows))
    if options["html_path"]:
        write_or_print(options["html_path"], page(results, pairs))
    if options["markdown_path"]:
        write_or_print(options["markdown_path"], "\n".join(markdown(results)) + "\n")
    if not options["quiet"]:
        click.echo("\n".join(_screen(results, pairs, options)), err=True)


def _beside(results: Results, options: dict[str, Any]) -> list[tuple[Row, list[Published]]]:
    from longpole.bench.published import published

    timed = [row for row in results.rows if row.median_ms]
    found = [
        (
            row,
            [
                *(each for name in options["against"] for each in published(row, name)),
                *(each for find in options["earlier"].values() for each in find(row)),
            ],
        )
        for row in timed
    ]
    return [(row, others) for row, others in found if others]


def _screen(
    results: Results, pairs: Sequence[tuple[Row, Sequence[Published]]], options: dict[str, Any]
) -> Sequence[str]:
    from longpole.bench.tables import beside_lines, lines, mine_lines

    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
    own = any(row.suite == "mine" for row in results.rows)
    table = mine_lines(results.rows, width) if own else lines(results.rows, width)
    return [*table, *_remarks(results, pairs, options), *beside_lines(pairs)]


def _remarks(
    results: Results, pairs: Sequence[tuple[Row, Sequence[Published]]], options: dict[str, Any]
) -> Sequence[str]:
    """What is missing from the table, and what to do about it."""
    found: list[str] = []
    timed = [row for row in results.rows if row.median_ms]
    if timed and all(row.bound_ms is None and row.bus_gb_per_s is None and row.op != "sparse_gemm" for row in timed):
        threads = f" --threads {options['threads']}" if options["threads"] else ""
        device = "" if options["device"] == "cpu" else f" --device {options['device']}"
        found.append(
            f"How far from this machine's limits? longpole machine{threads}{device} measures them once, in a minute"
        )
    for name in (*options["against"], *options["earlier"]):
        met = sum(any(each.device == name for each in others) for _, others in pairs)
        if met < len(timed):
            found.append(f"{name} has no result for {len(timed) - met} of these {len(timed)}")
    return [f"  {sentence}." for sentence in found]
