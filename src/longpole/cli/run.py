"""`longpole run`: a training script, unmodified, and where each of its steps goes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from longpole.capture.imports import is_installed
from longpole.capture.launch import Outcome, Target, check, leave, leave_forked
from longpole.capture.launch import run as run_target
from longpole.cli.run_folder import RUNS, Places, check_writable, new_folder, of_rank
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.capture.session import Session
    from longpole.trace.trace import Trace
    from longpole.whatif.changes import Changes


class ScriptCommand(click.Command):
    """What follows the script's name belongs to the script, `--` and all, and is never parsed here."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with_value = {name for p in self.params if _takes_value(p) for name in p.opts}
        own, target = split(args, with_value, ctx.info_name)
        ctx.obj = target
        return super().parse_args(ctx, own)


def _takes_value(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and not parameter.is_flag and not parameter.count


def split(args: list[str], with_value: set[str], command: str | None = None) -> tuple[list[str], Target | None]:
    """longpole's own options, and the script or module with everything after it."""
    index = 0
    while index < len(args):
        arg = args[index]
        if arg == "-m":
            if index + 1 == len(args):
                raise LongpoleError(f"-m needs the name of a module: longpole {command or 'run'} -m package.train")
            return args[:index], Target(args[index + 1], args[index + 2 :], is_module=True)
        if not arg.startswith("-"):
            return args[:index], Target(arg, args[index + 1 :])
        index += 2 if arg in with_value else 1
    return args, None


@click.command(cls=ScriptCommand, options_metavar="[OPTIONS] {SCRIPT.py | -m MODULE} [ARGS]...")
@click.option("--steps", default=20, show_default=True, type=click.IntRange(1), help="Steps to time.")
@click.option("--warmup", default=5, show_default=True, type=click.IntRange(0), help="Steps to let pass first.")
@click.option(
    "--budget", default=120.0, show_default=True, type=click.FloatRange(1), help="Seconds to measure at most."
)
@click.option("--stop", is_flag=True, help="End the script when the window is measured.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A folder, or a file: .json, .html, .longpole.")
@click.option("--json", "json_", metavar="FILE", help="Write the study as JSON; - for stdout.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the page.")
@click.option("--perfetto", type=click.Path(path_type=Path), metavar="FILE", help="Write a trace for ui.perfetto.dev.")
@click.option("--trace", type=click.Path(path_type=Path), metavar="FILE", help="Keep longpole's own trace there.")
@click.option("--no-save", is_flag=True, help="Keep no folder for this run.")
@click.option(
    "--checkpoint",
    multiple=True,
    metavar="LAYERS",
    help="Compute these layers again in backward instead of keeping them: 'blocks.2-5', 'blocks.*'. May be repeated.",
)
@click.option("--layers", is_flag=True, help="Show the layers, too.")
@click.option("-q", "--quiet", is_flag=True, help="Print no report.")
@click.pass_context
def command(ctx: click.Context, **options: Any) -> None:
    """Run a training script and say where each step goes.

    Everything after the script's name is the script's own. Its output, its exit code and its losses stay what
    they are without longpole; what longpole says goes to stderr.
    """
    target: Target | None = ctx.obj
    if target is None:
        raise LongpoleError("which script? longpole run [OPTIONS] train.py [ARGS], or -m package.train")
    check(target)
    if not is_installed("torch"):
        raise LongpoleError(
            f"torch is not installed in {sys.executable}; run longpole with the Python that trains: "
            "python -m pip install longpole, then python -m longpole run ..."
        )
    changes = _changes(options)
    places = choose_places(target, options)
    leave(_measure(target, places, options, changes))


def choose_places(target: Target, options: dict[str, Any]) -> Places:
    """Where outputs go, each checked before the training starts."""
    rank = _rank()
    output: Path | None = options["output"]
    explicit = {name: options[name] for name in ("html", "perfetto", "trace")}
    json_path = Path(options["json_"]) if options["json_"] not in (None, "-") else None
    explicit["json"] = json_path
    if output is not None and output.suffix:
        explicit[_kind_of(output)] = output
    chosen = {name: of_rank(path, rank) for name, path in explicit.items()}
    for name, path in chosen.items():
        if path is not None:
            check_writable(path, f"--{name}")
    folder = _folder(target, output, rank, save=not options["no_save"])
    if folder is not None:
        defaults = {"json": "study.json", "html": "report.html", "trace": "trace.longpole"}
        shared = rank if output is not None else 0  # a folder that was named has the files of all ranks
        chosen |= {name: of_rank(folder / file, shared) for name, file in defaults.items() if chosen[name] is None}
    return Places(**chosen, folder=folder, json_to_stdout=options["json_"] == "-")


def _rank() -> int:
    """This process's rank under torchrun and the like; the first one speaks for all."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdecimal() else 0


def _kind_of(output: Path) -> str:
    kinds = {".json": "json", ".html": "html", ".htm": "html", ".longpole": "trace", ".gz": "perfetto"}
    if output.suffix not in kinds:
        raise LongpoleError(f"-o {output}: the ending says the format, one of {', '.join(kinds)}; or name a folder")
    return kinds[output.suffix]


def _folder(target: Target, output: Path | None, rank: int, *, save: bool) -> Path | None:
    if not save or (output is not None and output.suffix):
        return None
    if output is None:
        name = target.name if target.is_module else Path(target.name).stem
        ranks = f"-rank{rank}" if "RANK" in os.environ else ""
        return new_folder((name or "run") + ranks)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LongpoleError(f"-o {output}: {error.strerror}; choose another place") from error
    return output


def _measure(target: Target, places: Places, options: dict[str, Any], changes: Changes) -> Outcome:
    from longpole.capture.plan import WindowOptions
    from longpole.capture.session import Session
    from longpole.trace.trace import RunInfo

    problems: list[str] = []
    unmet: list[Callable[[], str | None]] = []
    shown = target.name if not target.is_module else f"-m {target.name}"
    info = RunInfo(script=shown, argv=tuple(target.args), facts=_facts(changes))
    window = WindowOptions(options["steps"], options["warmup"], options["budget"], stop=options["stop"])
    session = Session(
        window,
        info,
        places.trace,
        lambda trace: None if _not_made(unmet) else _report(trace, places, options, problems),
        prepare=lambda: unmet.extend(_apply(changes)),
    )
    session.begin()
    outcome = run_target(target)
    session.end(outcome.how)
    if session.is_elsewhere:
        leave_forked(outcome)
    if session.trace_problem:
        problems.append(session.trace_problem)
    not_made = _not_made(unmet)
    if not_made:
        problems.append(not_made)
        _remove_empty(places)
    elif not session.reported:
        problems.append(nothing_measured(session))
        _remove_empty(places)
    for problem in problems:
        click.echo(f"longpole: {problem}", err=True)
    if problems and outcome.exit_code == 0:
        return Outcome(2, outcome.how)
    return outcome


def _changes(options: dict[str, Any]) -> Changes:
    """Those that this process was told, and the user's. Raises LongpoleError where a layer's name is none."""
    from msgspec.structs import replace

    from longpole.whatif.changes import told
    from longpole.whatif.layer_names import parse_patterns

    changes, names = told(), options["checkpoint"]
    if not names:
        return changes
    return replace(changes, checkpoint=tuple(pattern.text for pattern in parse_patterns(names)))


def _facts(changes: Changes) -> dict[str, str]:
    return {"checkpoint": ", ".join(changes.checkpoint)} if changes.checkpoint else {}


def _apply(changes: Changes) -> list[Callable[[], str | None]]:
    if not changes.are_any:
        return []
    from longpole.apply import apply

    return apply(changes)


def _not_made(unmet: list[Callable[[], str | None]]) -> str | None:
    """Why a change was not made: what was measured is then no answer, and is not shown."""
    return next((reason for ask in unmet if (reason := ask()) is not None), None)


def _report(trace: Trace, places: Places, options: dict[str, Any], problems: list[str]) -> None:
    """Never raises: the script may still be running."""
    from longpole.cli.output import publish

    try:
        publish(trace, places, quiet=options["quiet"] or _rank() > 0, layers=options["layers"], problems=problems)
    except LongpoleError as error:
        problems.append(str(error))
    except Exception as error:
        kept = f"; the trace is kept in {places.trace}" if places.trace else ""
        problems.append(f"the report failed ({type(error).__name__}: {error}){kept}; please report this")


def nothing_measured(session: Session) -> str:
    """One line: why there is no report, and what to do."""
    if session.problem:
        return f"could not measure: {session.problem}; the script ran as it is"
    recorder = session.recorder
    if recorder is None:
        return "the script never imported torch, so there was no training to measure"
    if recorder.failure:
        return f"measuring stopped: {recorder.failure}; the script went on"
    turns = len(recorder.builder.steps)
    if not turns:
        return (
            "no training step was seen in this process: no optimizer stepped. Is this the script that trains? "
            "Training in child processes is not followed; start them with torchrun -m longpole run"
        )
    return (
        f"only {turns} step{'s' if turns != 1 else ''} were seen, all of them warm-up (--warmup "
        f"{recorder.options.warmup}); let the script train longer, or give a smaller --warmup"
    )


def _remove_empty(places: Places) -> None:
    """A run that measured nothing leaves no folder behind."""
    if places.folder is None:
        return
    if places.trace is not None and places.trace.parent == places.folder:
        places.trace.unlink(missing_ok=True)
    try:
        places.folder.rmdir()
        if places.folder.parent == RUNS:  # else the folder round it is the user's own
            RUNS.rmdir()
    except OSError:
        pass
