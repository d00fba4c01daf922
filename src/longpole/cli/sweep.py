"""`longpole sweep`: a script run again and again with other batches and threads, and what that says."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from longpole.capture.launch import Target, check
from longpole.cli.interrupted import leave_interrupted
from longpole.cli.run import ScriptCommand
from longpole.cli.run_folder import RUNS, check_writable, new_folder
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from longpole.sweep.result import Sweep, SweepRun
    from longpole.sweep.running import Plan, Progress

GOES_ON = "the same command goes on from here"
USAGE = "longpole sweep --vary batch=8,16,32 --vary threads=1,2 train.py [ARGS]"


@click.command(cls=ScriptCommand, options_metavar="[OPTIONS] {SCRIPT.py | -m MODULE} [ARGS]...")
@click.option(
    "--vary",
    multiple=True,
    metavar="NAME=VALUES",
    help="batch=8,16,32 (the DataLoader's), threads=1,2, or a flag of the script's: \"--batch-size=8,16,32\".",
)
@click.option("--repeat", default=2, show_default=True, type=click.IntRange(1, 100), help="Runs of each setting.")
@click.option("--steps", default=12, show_default=True, type=click.IntRange(1), help="Steps to time in each run.")
@click.option("--warmup", default=3, show_default=True, type=click.IntRange(0), help="Steps to let pass first.")
@click.option(
    "--budget", default=900.0, show_default=True, type=click.FloatRange(1), help="Seconds; begin no run after them."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FOLDER", help="Keep the runs there.")
@click.option("--json", "json_", metavar="FILE", help="Write the sweep as JSON; - for stdout.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the page.")
@click.option("-q", "--quiet", is_flag=True, help="Print no report.")
@click.pass_context
def command(ctx: click.Context, **options: Any) -> None:
    """Run a script with other batches and threads: how parallel is it, and how serial?

    Each setting runs in a process of its own, in shuffled order, several times. A sweep that ends before its time
    goes on from there when the same command is given again.
    """
    target, vary = take_vary(ctx.obj, options["vary"])
    check(target)
    for name in ("json_", "html"):
        if options[name] not in (None, "-"):
            check_writable(Path(options[name]), f"--{name.rstrip('_')}")
    plan = _plan(target, vary, options)
    folder = _folder(plan, options["output"])
    found = _run(plan, folder, options)
    _publish(found, folder, options)
    if found.interrupted:
        leave_interrupted(f"after {_done(found.runs)} of {_total(plan)} runs; {GOES_ON}")


def take_vary(target: Target | None, vary: Sequence[str]) -> tuple[Target, list[str]]:
    """The script, and what is varied. `--vary` may also stand at the script's end, where none stands before it.

    There it is taken for ours only if its value can be one of ours, so that a script with such an option of its own
    gets it: by putting ours first.
    """
    if target is None:
        raise LongpoleError(f"which script? {USAGE}")
    args, found = list(target.args), list(vary)
    while not vary and "--" not in args and (taken := _last_vary(args)):
        found.insert(0, taken[0])
        del args[-taken[1] :]
    return Target(target.name, args, target.is_module), found


def _last_vary(args: list[str]) -> tuple[str, int] | None:
    """The last `--vary X` or `--vary=X`, and how many words it has."""
    from longpole.sweep.axes import is_axis

    if len(args) > 1 and args[-2] == "--vary" and is_axis(args[-1]):
        return args[-1], 2
    if args and args[-1].startswith("--vary=") and is_axis(args[-1].partition("=")[2]):
        return args[-1].partition("=")[2], 1
    return None


def _plan(target: Target, vary: Sequence[str], options: dict[str, Any]) -> Plan:
    from longpole.sweep.axes import parse_axes
    from longpole.sweep.running import Plan, source_of

    axes = parse_axes(vary)
    return Plan(
        script=target.name,
        args=tuple(target.args),
        is_module=target.is_module,
        axes=axes,
        rounds=options["repeat"],
        steps=options["steps"],
        warmup=options["warmup"],
        source="" if target.is_module else source_of(Path(target.name)),
        cores=os.cpu_count(),
    )


def _folder(plan: Plan, output: Path | None) -> Path:
    """The one asked for; or the last of this script, if it is this sweep's and unfinished; or a new one."""
    from longpole.sweep.running import is_unfinished

    if output is not None:
        return output
    name = f"sweep-{plan.script if plan.is_module else Path(plan.script).stem}"
    before = sorted(RUNS.glob(f"{_literal(name)}-[0-9]*")) if RUNS.is_dir() else []
    if before and is_unfinished(before[-1], plan):
        return before[-1]
    return new_folder(name)


def _literal(name: str) -> str:
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def _run(plan: Plan, folder: Path, options: dict[str, Any]) -> Sweep:
    from longpole.sweep.running import begin, run_points
    from longpole.sweep.summary import summarise

    done = begin(folder, plan)
    total = _total(plan)
    quiet: bool = options["quiet"]
    if not quiet:
        before = f", {len(done)} done before" if done else ""
        click.echo(f"longpole: {len(plan.points)} settings, {total} runs{before}; kept in {folder}", err=True)
    runs = list(done)
    try:
        interrupted = _take(run_points(plan, folder, done, options["budget"], time.monotonic, _Teller(quiet)), runs)
    except LongpoleError:
        _remove_empty(folder)
        raise
    if interrupted and not _done(runs):
        _remove_empty(folder)
        leave_interrupted("before a run was measured; nothing is known")
    left = total - len(runs)
    if left > 0 and not interrupted and not quiet and not any(run.failed for run in runs):
        click.echo(f"longpole: the budget ended with {left} runs to go; {GOES_ON}", err=True)
    found = summarise(_sweep(plan, runs))
    if interrupted:
        found.interrupted = True
        found.warnings.insert(0, f"Interrupted: the figures are those of {_done(runs)} of {total} runs.")
    return found


def _total(plan: Plan) -> int:
    return plan.rounds * len(plan.points)


def _done(runs: Sequence[SweepRun]) -> int:
    return sum(not run.failed for run in runs)


def _take(runs: Iterable[SweepRun], found: list[SweepRun]) -> bool:
    """Adds the runs as they come, and says whether Ctrl-C ended them: what is measured by then counts."""
    try:
        for run in runs:
            found.append(run)  # noqa: PERF402 - what is there when the user stops it counts
    except KeyboardInterrupt:
        return True
    return False


class _Teller:
    """A line for each run on stderr."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def __call__(self, progress: Progress) -> None:
        if self._quiet or progress.run is None:
            return
        run = progress.run
        took = f"{run.step_ms:.4g} ms a step" if run.step_ms is not None else f"failed: {run.failed}"
        click.echo(f"longpole: run {progress.number} of {progress.total}: {progress.point}: {took}", err=True)


def _sweep(plan: Plan, runs: list[SweepRun]) -> Sweep:
    from longpole.sweep.result import Sweep

    good = [run for run in runs if not run.failed]
    if not good:
        raise LongpoleError("no run was measured within the budget; give a larger --budget")
    return Sweep(
        script=f"-m {plan.script}" if plan.is_module else plan.script,
        argv=list(plan.args),
        framework=good[-1].framework,
        device=(good[-1].device or "").partition(",")[0] or None,
        model=good[-1].model,
        cores=plan.cores,
        axes=list(plan.axes),
        steps=plan.steps,
        runs=sorted(runs, key=lambda run: (run.round, run.batch or 0, run.threads or 0)),
    )


def _remove_empty(folder: Path) -> None:
    """A sweep in which nothing could be run leaves no folder behind."""
    from longpole.sweep.running import PLAN
    from longpole.sweep.running import RUNS as LINES

    try:
        if not (folder / LINES).stat().st_size:
            (folder / LINES).unlink()
            (folder / PLAN).unlink()
            folder.rmdir()
            folder.parent.rmdir()
    except OSError:
        pass


def _publish(found: Sweep, folder: Path, options: dict[str, Any]) -> None:
    from longpole.cli.output import write_text
    from longpole.report.sweep_page import sweep_page
    from longpole.sweep.running import PAGE, SWEEP

    text, page = found.to_json().decode(), sweep_page(found)
    write_text(folder / SWEEP, text + "\n")
    write_text(folder / PAGE, page)
    if options["json_"] == "-":
        sys.stdout.write(text + "\n")
    elif options["json_"]:
        write_text(Path(options["json_"]), text + "\n")
    if options["html"]:
        write_text(options["html"], page)
    if not options["quiet"]:
        from rich.console import Console

        from longpole.report.sweep import render_sweep

        render_sweep(found, Console(stderr=True), [f"picture: {folder / PAGE}"])
