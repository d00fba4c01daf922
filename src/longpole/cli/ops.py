"""`longpole ops`: benchmark operations; all of DeepBench, what networks need now, one's own, or one size by flags."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from longpole.bench.mine import StudyOp
    from longpole.bench.results import Results, Row
    from longpole.bench.suites import Size

_COLLECTIVE = frozenset({"all_reduce", "collective"})
_SUITES_HELP = "deepbench-train, deepbench-inference-server, deepbench-inference-device, modern, mine=STUDY.json."
_CACHE_HELP = "Caches as the last call left them, or emptied before each call."
_EACH_HELP = "At most, to measure one piece of one size; never fewer than 5 samples."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asked for."""

    dtype: str
    device: str
    threads: int | None
    caches: tuple[str, ...]
    budget_s: float | None
    each_s: float
    ranks: tuple[int, ...]
    again: bool
    results: Path | None
    quiet: bool
    check_only: bool = False


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
    if _rank() > 0:
        # Under torchrun every rank runs collectives, and the first reports.
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
        results = _run(suite or "one", sizes, wanted)
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


def _rank() -> int:
    return int(os.environ.get("RANK", "0") or 0)


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


def _prepare(wanted: Wanted) -> None:
    """Sets the threads asked for; a LongpoleError where there is no torch."""
    try:
        from longpole.bench.conditions import use_threads
    except ImportError as error:
        raise LongpoleError(f"running operations needs torch ({error}); pip install torch") from error
    use_threads(wanted.threads)


def _run(name: str, sizes: Sequence[Size], wanted: Wanted) -> Results:
    _prepare(wanted)
    from longpole.bench.conditions import conditions
    from longpole.bench.results import Results, differences, load_results, save_results

    results = Results(conditions(wanted.device))
    path = wanted.results or _kept_at(name, wanted, results)
    keep = name != "one" or wanted.results is not None
    kept = load_results(path) if keep and not wanted.again else None
    if kept is not None:
        unfair = differences(kept, results)
        if unfair:
            raise LongpoleError(f"{path} holds under other conditions ({unfair[0]}); --again forgets it")
        results.rows = kept.rows
    done = {row.key() for row in results.rows if _is_done(row, wanted)}
    todo = [size for size in sizes if not all(_key(size, wanted, cache) in done for cache in _caches(size, wanted))]
    if not wanted.quiet:
        skipped = f", {len(sizes) - len(todo)} done before" if len(todo) < len(sizes) else ""
        click.echo(f"longpole: {len(todo)} size{'' if len(todo) == 1 else 's'}{skipped}; least work first", err=True)
    measured = False
    for rows in _measure(todo, wanted):
        measured = measured or any(row.skipped is None for row in rows)
        fresh = {row.key() for row in rows}
        results.rows = [row for row in results.rows if row.key() not in fresh] + rows
        if keep and _rank() == 0:
            save_results(results, path)
    if kept is not None and not measured:
        results.conditions = kept.conditions  # those of the measurements, when they were made
    asked = {_key(size, wanted, cache) for size in sizes for cache in _caches(size, wanted)}
    left = len(sizes) - len({(row.op, row.index) for row in results.rows if row.key() in asked})
    if left and not wanted.quiet:
        click.echo(f"longpole: the budget ended with {left} sizes to go; the same command goes on from here", err=True)
    return Results(results.conditions, [row for row in results.rows if row.key() in asked])


def _is_done(row: Row, wanted: Wanted) -> bool:
    """A result that was only checked is still to be timed; a collective that did not fit may fit with other ranks."""
    if row.skipped is not None:
        return row.op not in _COLLECTIVE
    return row.median_ms is not None or wanted.check_only


def _caches(size: Size, wanted: Wanted) -> tuple[str, ...]:
    return ("hot",) if size.op in _COLLECTIVE else wanted.caches


def _key(size: Size, wanted: Wanted, cache: str) -> tuple[str, str, int, str, str, str]:
    dtype = wanted.dtype
    if size.op in _COLLECTIVE:
        dtype = size.row.get("dtype", "fp32")
    return size.suite, size.op, size.index, size.label, dtype, cache


def _kept_at(name: str, wanted: Wanted, results: Results) -> Path:
    from longpole.bench.results import DECISIVE
    from longpole.machine.ceilings import cache_folder

    key = "|".join(results.conditions.get(each, "") for each in DECISIVE)
    return cache_folder() / "ops" / f"{name}-{wanted.dtype}-{sha256(key.encode()).hexdigest()[:12]}.json"


def _measure(sizes: Sequence[Size], wanted: Wanted) -> Iterator[list[Row]]:
    """Collectives after everything else: they need processes of their own."""
    from longpole.bench.ranks import run_collectives
    from longpole.bench.run import Options, run_sizes
    from longpole.bench.timing import Protocol

    plain = [size for size in sizes if size.op not in _COLLECTIVE]
    shared = [size for size in sizes if size.op in _COLLECTIVE]
    options = Options(wanted.dtype, wanted.device, wanted.caches, Protocol(wanted.each_s), wanted.budget_s)
    options = replace(options, check_only=wanted.check_only)
    deadline_s = None if wanted.budget_s is None else time.monotonic() + wanted.budget_s
    with _progress(wanted.quiet or not plain) as seen:
        yield from run_sizes(plain, options, seen)
    if shared:
        yield from run_collectives(shared, wanted.ranks, wanted.each_s / 4, deadline_s)


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
    _prepare(wanted)
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
        click.echo(f"longpole: the budget ended with {left} operations to go, those that take least", err=True)
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
