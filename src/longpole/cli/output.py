"""From a trace to everything the user asked for: terminal, JSON, page, Perfetto."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.analysis.study import Study
    from longpole.cli.run_folder import Places
    from longpole.trace.trace import Trace


def publish(trace: Trace, places: Places, *, quiet: bool, layers: bool, problems: list[str]) -> None:
    """Makes the study and writes it to every place; a place that fails is noted and the others go on."""
    from longpole.analysis.make import study
    from longpole.machine import load_ceilings

    found = study([trace], load_ceilings(trace.info.threads))
    if not quiet:
        show(found, layers=layers, hints=_hints(places, found))
    if places.json_to_stdout:
        sys.stdout.write(found.to_json().decode() + "\n")
    _try(lambda: _json(found, places), problems)
    _try(lambda: _html(found, trace, places), problems)
    _try(lambda: _perfetto(trace, places), problems)


def _try(write: Callable[[], None], problems: list[str]) -> None:
    try:
        write()
    except (LongpoleError, OSError) as error:
        problems.append(str(error))


def show(found: Study, *, layers: bool = False, hints: tuple[str, ...] = (), top: int = 8, ranks: bool = False) -> None:
    """The terminal report, on stderr: stdout is the script's."""
    from rich.console import Console

    from longpole.report.terminal import render

    console = Console(stderr=True)
    render(found, console, layers=layers, top=top, ranks=ranks)
    for hint in hints:
        console.print(f"  {hint}", highlight=False, markup=False, soft_wrap=True)


def _hints(places: Places, found: Study) -> tuple[str, ...]:
    hints: list[str] = []
    if found.bound_by is None:
        hints.append("how far from this machine's limits? longpole machine measures them once, in a minute")
    if places.folder is not None:
        hints.append(f"layers: longpole open {places.folder} --layers        picture: {places.html}")
    return tuple(hints)


def _json(found: Study, places: Places) -> None:
    if places.json is not None:
        found.save(places.json)


def _html(found: Study, trace: Trace, places: Places) -> None:
    if places.html is not None:
        from longpole.report.html import page

        write_text(places.html, page(found, trace))


def write_text(path: Path, text: str) -> None:
    """Raises LongpoleError where the place cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LongpoleError(f"cannot write {path}: {error.strerror}; choose another place") from error


def write_or_print(place: str, text: str) -> None:
    """To a file, or to stdout where the place is "-"."""
    if place == "-":
        sys.stdout.write(text)
    else:
        write_text(Path(place), text)


def _perfetto(trace: Trace, places: Places) -> None:
    if places.perfetto is not None:
        from longpole.analysis.attribution import attribute
        from longpole.report.perfetto import write_perfetto

        write_perfetto([trace], places.perfetto, [attribute(trace)])
