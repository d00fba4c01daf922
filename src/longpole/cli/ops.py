"""`longpole ops`: benchmark operations; all of DeepBench, what networks need now, one's own, or one size by flags."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from longpole.bench.session import Wanted, prepare, rank, run_session
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from longpole.bench.mine import StudyOp
    from longpole.bench.results import Results
    from longpole.bench.suites import Size

_SUITES_HELP = "deepbench-train, deepbench-inference-server, deepbench-inference-device, modern, mine=STUDY.json."
_CACHE_HELP = "Caches as the last call left them, or emptied before each call."
_EACH_HELP = "At most, to measure one piece of one size; never fewer than 5 samples."


@click.command(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "ignore_unknown_options": True,
        "allow_extra_args": True,
    }
)
@click.argument("operation", required=False)
@click.option(
    "--suite",
    metavar="SUITE",
    help=_SUITES_HELP,
)
@click.option("--op", "ops", multiple=True, help="Of the suite, only this operation; may be given several times.")
@click.option("--list", "list_only", is_flag=True, help="List the sizes and run nothing.")
@click.option("--dtype", default="fp32", show_default=True, type=click.Choice(["fp32", "fp64", "tf32", "bf16", "fp16"]))
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option("--threads", type=click.IntRange(1), help="Threads for torch; its own number where left out.")
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
    help="Beside published results: V100, KNL7250, ...",
)
@click.option("--again", is_flag=True, help="Forget results kept from earlier runs of this suite.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep results here.",
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
    suite, operation = options["suite"], options["operation"]
    if (suite is None) == (operation is None):
        raise LongpoleError("name a --suite, or one operation: longpole ops gemm --m 1760 --n 128 --k 1760")
    if suite is not None and ctx.args:
        raise LongpoleError(f"{ctx.args[0]} means nothing beside --suite; leave one of them out")
    options["against"] = _devices(options["against"])
    if rank() > 0:
        options.update(quiet=True, json_path=None, csv_path=None, html_path=None, markdown_path=None)
    wanted = _wanted(options)
    if suite is not None and suite.startswith("mine="):
        chosen = _mine(Path(suite[5:]), options["ops"])
        if options["list_only"]:
            _list_mine(suite, chosen, options["json_path"])
            return
        results = _run_mine(chosen, wanted)
    else:
        sizes = _sizes(suite, operation, ctx.args, options["ops"])
        if options["list_only"]:
            _list(suite or operation, sizes, options["json_path"])
            return
        say = (lambda _: None) if wanted.quiet else _say
        results = run_session(suite or "one", sizes, wanted, say, lambda count: _progress(wanted.quiet or not count))
    _publish(results, options)
    if any(row.correct is False for row in results.rows):
        raise LongpoleError("some results differ from float64 by more than rounding explains: rows marked with !")


def _wanted(options: dict[str, Any]) -> Wanted:
    caches = ("hot", "cold") if options["cache"] == "both" else (options["cache"],)
    return Wanted(
        options["dtype"], options["device"], options["threads"], caches, options["budget"], options["each"],
        options["ranks"] or (2, 4), options["again"], options["results"], options["quiet"],
        options["check"],
    )  # fmt: skip


def _say(sentence: str) -> None:
    click.echo(f"longpole: {sentence}", err=True)


def _devices(names: Sequence[str]) -> list[str]:
    """Published devices by their full names: a slip is told before anything is measured."""
    if not names:
        return []
    from longpole.bench.published import device_called

    return [device_called(name) for name in names]


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


def _list(name: str, sizes: Sequence[Size], json_path: str | None) -> None:
    counts: dict[str, int] = {}
    for size in sizes:
        counts[size.op] = counts.get(size.op, 0) + 1
    if json_path is None:
        text = "\n".join(f"{size.op} {size.index} {size.label}" for size in sizes)
        click.echo(f"{text}\n{name}: {', '.join(f'{count} {op}' for op, count in counts.items())}")
        return
    import msgspec

    listing = [{"op": s.op, "index": s.index, "label": s.label, "flops": s.flops, "params": dict(s.row)} for s in sizes]
    document = {"suite": name, "counts": counts, "sizes": listing}
    _write(json_path, msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n")


def _progress(quiet: bool) -> Any:
    """A context that gives a callback for each size begun; a bar on stderr where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        return nullcontext(lambda *_: None)
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import Progress

    @contextmanager
    def bar() -> Generator[Callable[..., None]]:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("operations")

            def seen(position: int, total: int, size: Size) -> None:
                progress.update(task, completed=position, total=total, description=f"{size.op} {size.label}"[:60])

            yield seen

    return bar()


def _mine(path: Path, names: Sequence[str]) -> list[StudyOp]:
    """The operations of a study; of those only the ones named, with `aten::` or without."""
    try:
        from longpole.bench.mine import read_ops
    except ImportError as error:
        raise LongpoleError(f"running operations needs torch ({error}); pip install torch") from error
    found = read_ops(path)
    known = {op.op for op in found}
    wanted = {name if name in known else f"aten::{name}" for name in names}
    if wanted - known:
        slip = sorted(wanted - known)[0].removeprefix("aten::")
        raise LongpoleError(f"{path} has no operation {slip!r}; --list names those it has")
    return [op for op in found if not names or op.op in wanted]


def _list_mine(suite: str, ops: list[StudyOp], json_path: str | None) -> None:
    from longpole.bench.mine import together

    merged = together(ops)
    if json_path is None:
        lines = [f"{op.op} {op.shapes or ''}  {op.ms or 0:.4g} ms a step" for op in merged]
        click.echo("\n".join([*lines, f"{suite}: {len(merged)} operations"]))
        return
    import msgspec

    document = {"suite": suite, "counts": dict(Counter(op.op for op in merged)), "sizes": merged}
    _write(json_path, msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n")


def _run_mine(ops: list[StudyOp], wanted: Wanted) -> Results:
    prepare(wanted)
    from longpole.bench.conditions import conditions, torch_threads
    from longpole.bench.mine import run_mine, together
    from longpole.bench.results import Results
    from longpole.bench.timing import Protocol
    from longpole.machine import load_ceilings

    if wanted.device != "cpu" or wanted.dtype != "fp32":
        raise LongpoleError("operations of a study run on the CPU in fp32; leave --device and --dtype out")
    rows = list(run_mine(ops, Protocol(wanted.each_s), load_ceilings(threads=torch_threads()), wanted.budget_s))
    left = len(together(ops)) - len(rows)
    if left and not wanted.quiet:
        _say(f"the budget ended with {left} operations to go, those that take least")
    return Results(conditions("cpu"), rows)


def _publish(results: Results, options: dict[str, Any]) -> None:
    from longpole.bench.markdown import markdown
    from longpole.bench.published import beside
    from longpole.bench.results import to_csv, to_json
    from longpole.bench.tables import beside_lines, lines, mine_lines, page

    pairs = beside(results.rows, options["against"])
    if options["json_path"]:
        _write(options["json_path"], to_json(results))
    if options["csv_path"]:
        _write(options["csv_path"], to_csv(results.rows))
    if options["html_path"]:
        _write(options["html_path"], page(results, pairs))
    if options["markdown_path"]:
        _write(options["markdown_path"], "\n".join(markdown(results)) + "\n")
    if not options["quiet"]:
        own = any(row.suite == "mine" for row in results.rows)
        table = mine_lines(results.rows) if own else lines(results.rows)
        click.echo("\n".join([*table, *beside_lines(pairs)]), err=True)


def _write(path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise LongpoleError(f"cannot write {path}: {error.strerror}; choose another place") from error
