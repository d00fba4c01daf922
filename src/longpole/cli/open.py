"""`longpole open`: traces of any machine, studies and run folders, and where their steps went."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from longpole.cli.opening import RANKS_AT_ONCE, files_of, open_paths
from longpole.cli.output import show, write_text
from longpole.cli.run_folder import check_writable
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from longpole.cli.opening import Opened


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="TRACE...", type=click.Path(path_type=Path))
@click.option("--layers", is_flag=True, help="Show the layers, too.")
@click.option("--ranks", is_flag=True, help="Show every rank.")
@click.option("--step", type=int, metavar="N", help="One step only, by its number in the trace.")
@click.option("--top", default=8, show_default=True, type=click.IntRange(1), help="Rows of each list.")
@click.option("--json", "json_", metavar="FILE", help="Write the study as JSON; - for stdout.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the page.")
@click.option("--perfetto", type=click.Path(path_type=Path), metavar="FILE", help="Write a trace for ui.perfetto.dev.")
@click.option("-q", "--quiet", is_flag=True, help="Print no report.")
def command(paths: tuple[Path, ...], **options: Any) -> None:
    """Open traces and say where their steps went.

    TRACE is what torch.profiler wrote (one file a rank), a folder of such files, a study.json, or the folder of a
    run. The report goes to stderr; --json - writes to stdout.
    """
    json_path = Path(options["json_"]) if options["json_"] not in (None, "-") else None
    for name, path in (("json", json_path), ("html", options["html"]), ("perfetto", options["perfetto"])):
        if path is not None:
            check_writable(path, f"--{name}")
    _prepare(paths)
    opened = open_paths(paths, options["step"])
    if not options["quiet"]:
        show(opened.study, layers=options["layers"], top=options["top"], ranks=options["ranks"])
    if options["json_"] == "-":
        sys.stdout.write(opened.study.to_json().decode() + "\n")
    if json_path is not None:
        opened.study.save(json_path)
    _write_files(opened, options)


def _prepare(paths: tuple[Path, ...]) -> None:
    """For large files: what has to be done before numpy is imported and columns are made."""
    from longpole.importers.kept_memory import keep_freed_memory
    from longpole.importers.workers import start_ahead

    start_ahead(files_of(paths), RANKS_AT_ONCE)
    keep_freed_memory()


def _write_files(opened: Opened, options: dict[str, Any]) -> None:
    page_path, timeline_path = options["html"], options["perfetto"]
    if page_path is not None:
        from longpole.report.html import page

        write_text(page_path, page(opened.study, opened.traces[0] if opened.traces else None))
    if timeline_path is not None:
        from longpole.report.perfetto import write_perfetto

        if not opened.traces:
            raise LongpoleError(f"--perfetto {timeline_path}: a timeline needs a trace; only a study was given")
        write_perfetto(opened.traces, timeline_path)
