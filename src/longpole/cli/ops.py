"""`longpole ops`: benchmark operations; all of DeepBench, what networks need now, one's own, or one size by flags."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from longpole.bench.kept import rank
from longpole.bench.session import Outcome, Wanted, prepare, run_session
from longpole.cli.interrupted import leave_interrupted
from longpole.cli.ops_listing import list_mine, list_sizes, list_suites
from longpole.cli.ops_report import check_places, publish
from longpole.cli.threads import THREADS
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from longpole.bench.mine import StudyOp
    from longpole.bench.published import Published
    from longpole.bench.results import Row
    from longpole.bench.suites import Size

_SUITES_HELP = "deepbench-train, deepbench-inference-server, deepbench-inference-device, modern, mine=STUDY.json."
_CACHE_HELP = "Caches as the last call left them, or emptied before each call."
_DTYPES = ["fp32", "fp64", "tf32", "bf16", "fp16", "int8"]
_EACH_HELP = "At most, to measure one piece of one size; never fewer than 5 samples."


class OpsCommand(click.Command):
    """Ends its help with the flags of each operation."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        from longpole.bench.flags import described

        with formatter.section("Flags of one size, with what they are where left out"):
            formatter.write_dl(list(described()))


@click.command(
    cls=OpsCommand,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "ignore_unknown_options": True,
        "allow_extra_args": True,
    },
)
@click.argument("operation", required=False)
@click.option(
    "--suite",
    metavar="SUITE",
    help=_SUITES_HELP,
)
@click.option("--op", "ops", multiple=True, help="Of the suite, only this operation; may be given several times.")
@click.option(
    "--list", "list_only", is_flag=True, help="List the sizes, or without --suite the suites, and run nothing."
)
@click.option("--dtype", default="fp32", show_default=True, type=click.Choice(_DTYPES))
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option("--threads", type=THREADS, help="Threads for torch; its own number where left out.")
@click.option(
    "--cache",
    default="hot",
    show_default=True,
    type=click.Choice(["hot", "cold", "both"]),
    help=_CACHE_HELP,
)
@click.option(
    "--budget",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Begin no size after this; the next run goes on.",
)
@click.option(
    "--each",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.001),
    metavar="SECONDS",
    help=_EACH_HELP,
)
@click.option("--check", is_flag=True, help="Compare each result with float64, and time nothing.")
@click.option(
    "--ranks",
    multiple=True,
    type=click.IntRange(2, 64),
    help="Processes to spawn for collectives: 2 and 4.",
)
@click.option(
    "--against",
    multiple=True,
    metavar="DEVICE",
    help="Beside published results (V100, KNL7250, ...) or a results FILE.json of the same conditions.",
)
@click.option("--again", is_flag=True, help="Forget results kept from earlier runs of this suite.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep results here, and go on from those that are here.",
)
@click.option("--json", "json_path", is_flag=False, flag_value="-", metavar="[FILE]", help="JSON; stdout without FILE.")
@click.option("--csv", "csv_path", is_flag=False, flag_value="-", metavar="[FILE]", help="CSV; stdout without FILE.")
@click.option("--html", "html_path", metavar="FILE", help="A page with every row.")
@click.option("--markdown", "markdown_path", metavar="FILE", help="A table for a document.")
@click.option("--quiet", is_flag=True, help="No table, no progress bar.")
@click.pass_context
def command(ctx: click.Context, **options: Any) -> None:
    """Benchmark operations.

    A suite (--suite), or one size: longpole ops gemm --m 1760 --n 128 --k 1760. Least work first: FLOPs, and ten for
    each byte. Results are kept, so that a run with --budget goes on where the last one stopped.
    """
    suite: str | None = options["suite"]
    operation: str | None = options["operation"]
    if options["list_only"] and suite is None and operation is None:
        list_suites(options["json_path"])
        return
    if suite is not None and operation is not None:
        raise LongpoleError(f"{operation} means nothing beside --suite; --op NAME chooses operations of a suite")
    if suite is None and operation is None:
        raise LongpoleError("name a --suite, or one operation: longpole ops gemm --m 1760 --n 128 --k 1760")
    options["ops"] = [name.replace("-", "_") for name in options["ops"]]
    options["against"], options["against_files"] = _against(options["against"])
    if rank() > 0:
        options.update(quiet=True, json_path=None, csv_path=None, html_path=None, markdown_path=None)
    check_places(options)
    mine = (suite or "").partition("mine=")[2]
    found = _of_mine(Path(mine), options) if mine else _of_sizes(suite, ctx.args, options)
    if found is not None:
        _tell(found, options)


def _of_sizes(suite: str | None, flags: Sequence[str], options: dict[str, Any]) -> Outcome | None:
    """Sizes of a suite, or one; None where they were only listed."""
    sizes = _sizes(suite, options["operation"], flags, options["ops"])
    if options["list_only"]:
        list_sizes(suite or options["operation"], sizes, options["json_path"])
        return None
    wanted = _wanted(options)
    options["earlier"] = _earlier(wanted, options["against_files"])
    return run_session(suite or "one", sizes, wanted, _sayer(wanted), _bar(wanted))


def _of_mine(path: Path, options: dict[str, Any]) -> Outcome | None:
    """The operations of one's own network; None where they were only listed."""
    ops, names = _mine(path, options["ops"])
    from longpole.bench.mine import together
    from longpole.bench.mine_session import run_mine_session

    if options["list_only"]:
        list_mine(f"mine={path}", [op for op in together(ops) if not names or op.op in names], options["json_path"])
        return None
    wanted = _wanted(options)
    options["earlier"] = _earlier(wanted, options["against_files"])
    return run_mine_session(ops, names, wanted, _sayer(wanted), _bar(wanted))


def _tell(found: Outcome, options: dict[str, Any]) -> None:
    """Reports, how to go on, and the exit code."""
    publish(found.results, options)
    goes_on = "the same command goes on from here" if found.kept else "nothing of it is kept"
    goes_on = f"{goes_on}, without --again" if found.kept and options["again"] else goes_on
    what = "operation" if (options["suite"] or "").startswith("mine=") else "size"
    to_go = f"{found.left} {what}{'' if found.left == 1 else 's'} to go"
    if any(row.correct is False for row in found.results.rows):
        raise LongpoleError("some results differ from what they should be by more than rounding explains: see the !")
    if found.interrupted:
        leave_interrupted(f"with {to_go}; {goes_on}")
    if found.left and not options["quiet"]:
        _say(f"the budget ended with {to_go}; {goes_on}")


def _wanted(options: dict[str, Any]) -> Wanted:
    caches = ("hot", "cold") if options["cache"] == "both" else (options["cache"],)
    return Wanted(
        options["dtype"], options["device"], options["threads"], caches, options["budget"], options["each"],
        options["ranks"] or (2, 4), options["again"], options["results"], options["quiet"],
        options["check"],
    )  # fmt: skip


def _say(sentence: str) -> None:
    click.echo(f"longpole: {sentence}", err=True)


def _sayer(wanted: Wanted) -> Callable[[str], None]:
    return (lambda _: None) if wanted.quiet else _say


def _bar(wanted: Wanted) -> Callable[[int], Any]:
    return lambda count: _progress(wanted.quiet or not count)


def _against(names: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Published devices by their full names, and files of results: a slip is told before anything is measured."""
    files = [Path(name) for name in names if name.endswith(".json") or Path(name).is_file()]
    devices = [name for name in names if Path(name) not in files]
    if not devices:
        return [], files
    from longpole.bench.published import device_called

    return [device_called(name) for name in devices], files


def _earlier(wanted: Wanted, files: Sequence[Path]) -> dict[str, Callable[[Row], list[Published]]]:
    """What files of results hold for a row, as they are now: they may be the one that is written to.

    LongpoleError where one cannot be compared with what is about to be measured.
    """
    if not files:
        return {}
    prepare(wanted)
    from longpole.bench.conditions import conditions
    from longpole.bench.earlier import earlier
    from longpole.bench.results import Results

    now = Results(conditions(wanted.device))
    return {str(path): earlier(path, now) for path in files}


def _sizes(suite: str | None, operation: str | None, flags: Sequence[str], ops: Sequence[str]) -> list[Size]:
    from longpole.bench.flags import size_from_flags
    from longpole.bench.suites import SUITES, load_suite

    if operation is not None:
        return [size_from_flags(operation.replace("-", "_"), flags)]
    if suite not in SUITES:
        raise LongpoleError(f"no suite {suite!r}; there are {', '.join(SUITES)}, and mine=STUDY.json")
    found = load_suite(suite)
    known = sorted({size.op for size in found})
    wrong = [op for op in ops if op not in known]
    if wrong:
        raise LongpoleError(f"{suite} has no operation {wrong[0]!r}; it has {', '.join(known)}")
    return [size for size in found if not ops or size.op in ops]


def _progress(quiet: bool) -> Any:
    """A context that gives a callback for each size begun; a bar on stderr where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        return nullcontext(lambda *_: None)
    from contextlib import contextmanager

    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    @contextmanager
    def bar() -> Generator[Callable[..., None]]:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("operations")

            def seen(position: int, total: int, name: str) -> None:
                progress.update(task, completed=position, total=total, description=escape(name[:60]))

            yield seen

    return bar()


def _mine(path: Path, names: Sequence[str]) -> tuple[list[StudyOp], list[str]]:
    """The operations of a study, and the full names of those to run: given with `aten::` or without."""
    try:
        from longpole.bench.mine import read_ops
    except ImportError as error:
        raise LongpoleError(f"running operations needs torch ({error}); pip install torch") from error
    found = read_ops(path)
    known = {op.op for op in found}
    if not known:
        raise LongpoleError(f"{path} has no operations; longpole run --json records them")
    full = [name if name in known else f"aten::{name}" for name in names]
    slip = next((name.removeprefix("aten::") for name in full if name not in known), None)
    if slip is not None:
        raise LongpoleError(f"{path} has no operation {slip!r}; --list names those it has")
    return found, full
