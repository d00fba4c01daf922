"""`longpole survey`: the same measurement on the networks that people train, side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from longpole.cli.interrupted import leave_interrupted
from longpole.cli.threads import THREADS
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.survey import Survey
    from longpole.survey.catalogue import Network
    from longpole.survey.survey import Plan

_FOLDER = Path("longpole-runs") / "survey"
BUDGET_S, RUNS = 18.0, 3
# At full size a step takes up to a minute on two cores, and every kind of measured step is needed once.
FULL_BUDGET_S, FULL_RUNS = 600.0, 1


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("networks", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every reference network in plain torch.")
@click.option("--list", "list_only", is_flag=True, help="List the networks and run nothing.")
@click.option("--full", is_flag=True, help="As published, instead of what two cores do in seconds.")
@click.option(
    "--budget",
    type=click.FloatRange(1),
    metavar="SECONDS",
    help="To measure one network, over all of its runs.  [default: 18, and 600 with --full]",
)
@click.option("--runs", type=click.IntRange(1, 20), help="Fresh processes for each.  [default: 3, and 1 with --full]")
@click.option("--parallel/--no-parallel", default=True, show_default=True,
              help="Run each with a smaller batch and with other threads, too.")  # fmt: skip
@click.option("--threads", type=THREADS, help="Threads for torch; its own number where left out.")
@click.option("--again", is_flag=True, help="Forget results kept from earlier; else they are used.")
@click.option("-o", "--output", default=_FOLDER, show_default=True, type=click.Path(path_type=Path), metavar="FOLDER",
              help="Keep results there.")  # fmt: skip
@click.option("--json", "json_", metavar="FILE", help="Write the survey as JSON; - for stdout.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page that sorts by any column.")
@click.option("--answers", type=click.Path(path_type=Path), metavar="FILE", help="Write the answers as Markdown.")
@click.option("-q", "--quiet", is_flag=True, help="No table, no progress.")
def command(**options: Any) -> None:
    """Measure reference networks and compare where their steps go.

    Each trains in fresh processes under `longpole run`. Results are kept: the same command goes on where it stopped.
    """
    if options["list_only"]:
        click.echo("\n".join(_listed()))
        return
    chosen = choose(options["networks"], everything=options["everything"])
    options["budget"] = options["budget"] or (FULL_BUDGET_S if options["full"] else BUDGET_S)
    options["runs"] = options["runs"] or (FULL_RUNS if options["full"] else RUNS)
    _check_places(options)
    try:
        found = _measure(chosen, options)
    except KeyboardInterrupt:
        leave_interrupted("before a network was measured; nothing is known")
    _write(found, options)
    if found.interrupted:
        leave_interrupted(_where_it_stands(found, options))
    if all(row.failed for row in found.rows):
        raise LongpoleError(f"no network could be measured; the first: {found.rows[0].failed}")


def _listed() -> list[str]:
    """A line for each network that can be run here, and one for those that cannot."""
    from longpole.survey.catalogue import FROM_TRANSFORMERS, NETWORKS, is_available

    here = [one for one in (*NETWORKS, *FROM_TRANSFORMERS) if is_available(one)]
    lines = [f"{one.name:16} {one.family:15} {one.says}" for one in here]
    missing = [one.name for one in FROM_TRANSFORMERS if one not in here]
    if missing:
        lines += ["", f"Where transformers is installed, also: {', '.join(missing)}"]
    return lines


def choose(names: Sequence[str], *, everything: bool) -> list[Network]:
    """The networks asked for, each once, in the order of the list. Raises LongpoleError where none is, or unknown."""
    from longpole.survey.catalogue import FROM_TRANSFORMERS, NETWORKS, find

    if everything:
        return list(NETWORKS)
    if not names:
        raise LongpoleError("which networks? longpole survey NAME... or --all; --list shows them")
    wanted = {find(name).name for name in names}
    return [one for one in (*NETWORKS, *FROM_TRANSFORMERS) if one.name in wanted]


def _check_places(options: dict[str, Any]) -> None:
    """A survey takes minutes: what cannot be written is found before."""
    from longpole.cli.run_folder import check_writable

    places = {name: options[name] for name in ("html", "answers")}
    places["json"] = Path(options["json_"]) if options["json_"] not in (None, "-") else None
    for name, place in places.items():
        if place is not None:
            check_writable(place, f"--{name}")


def _measure(chosen: Sequence[Network], options: dict[str, Any]) -> Survey:
    from longpole.survey.kept import forget
    from longpole.survey.run_one import Asked
    from longpole.survey.survey import Plan

    size = "full" if options["full"] else "small"
    asked = Asked(size, options["budget"] / options["runs"], options["threads"])
    plan = Plan(chosen, asked, options["runs"], options["output"], options["parallel"])
    if options["again"]:
        forget(options["output"], [one.name for one in chosen], size)
    return _with_progress(plan, quiet=options["quiet"])


def _with_progress(plan: Plan, *, quiet: bool) -> Survey:
    from longpole.survey.survey import Progress, survey

    if quiet:
        return survey(plan)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("survey")

        def tell(network: str, done: int, whole: int) -> None:
            bar.update(task, description=network, completed=done, total=whole)

        return survey(plan, Progress(tell))


def _write(found: Survey, options: dict[str, Any]) -> None:
    from longpole.cli.output import write_text

    if not options["quiet"]:
        _show(found, _more(options))
    if options["json_"] == "-":
        sys.stdout.write(found.to_json().decode() + "\n")
    elif options["json_"]:
        write_text(Path(options["json_"]), found.to_json().decode() + "\n")
    if options["html"]:
        from longpole.report.survey_page import page

        write_text(options["html"], page(found))
    if options["answers"]:
        from longpole.cli.survey_traces import recorded
        from longpole.survey.answers_page import page as answers

        write_text(options["answers"], answers(found, _again(options), recorded()))


def _where_it_stands(found: Survey, options: dict[str, Any]) -> str:
    measured = sum(bool(row.runs) for row in found.rows)
    command = "the same command without --again" if options["again"] else "the same command"
    return f"when {measured} of {len(found.rows)} networks had runs, kept in {options['output']}; {command} goes on"


def _again(options: dict[str, Any]) -> str:
    """The command that makes the same again."""
    networks = "--all" if options["everything"] else " ".join(options["networks"])
    said = ["--full"] if options["full"] else []
    said += [] if options["parallel"] else ["--no-parallel"]
    said += [f"--threads {options['threads']}"] if options["threads"] else []
    words = ["longpole survey", networks, *said, f"--budget {options['budget']:g} --runs {options['runs']}"]
    return " ".join([*words, f"--answers {options['answers']}"])


def _more(options: dict[str, Any]) -> list[str]:
    """What one may want next; nothing is measured again for it."""
    if options["html"] or options["json_"]:
        return []
    return [(f"* Runs are kept in {options['output']}: the same command with --html FILE draws them, --answers FILE "
            "judges claims by them.")]  # fmt: skip


def _show(found: Survey, more: Sequence[str]) -> None:
    from rich.console import Console

    from longpole.report.lines import write_lines
    from longpole.report.survey_text import screen

    console = Console(stderr=True)
    write_lines(screen(found, min(max(console.width, 60), 140), more), console)
