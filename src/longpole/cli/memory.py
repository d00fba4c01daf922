"""`longpole memory`: what computing layers again would free and cost, the set for a budget, the largest batch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from longpole.capture.imports import is_installed
from longpole.capture.launch import Target, check
from longpole.cli.run import ScriptCommand, split
from longpole.cli.run_folder import check_writable
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from longpole.analysis.memory_prices import FitPrice, LargestBatch, MemoryPrices, Price
    from longpole.analysis.study import Memory
    from longpole.trace.trace import Trace
    from longpole.whatif.memory_runs import MemoryRun
    from longpole.whatif.price import PriceList

TRACES = (".longpole",)


class MemoryCommand(ScriptCommand):
    """A run has no arguments of its own: what follows it is ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with_value = {name for p in self.params if isinstance(p, click.Option) and not p.is_flag for name in p.opts}
        own, target = split(args, with_value, ctx.info_name)
        if target is not None and _trace_file(target) is not None:
            args = [*own, *target.args, target.name]
        return super().parse_args(ctx, args)


@click.command(cls=MemoryCommand, options_metavar="[OPTIONS] {RUN | SCRIPT.py | -m MODULE} [ARGS]...")
@click.option("--fit", metavar="BYTES", help="The cheapest layers to compute again so that tensors take no more: 8GB.")
@click.option("--check", "check_", is_flag=True, help="Run the script with what was found, and compare. SCRIPT only.")
@click.option("--largest-batch", is_flag=True, help="The largest batch that fits, from three measured. SCRIPT only.")
@click.option("--batch-flag", metavar="FLAG", help="The script's own flag for it: --batch-size.  [default: DataLoader]")
@click.option("--batches", metavar="A,B,C", help="Batches to measure.  [default: half, once and twice the script's]")
@click.option("--budget", metavar="BYTES", help="For --largest-batch.  [default: what is free on this machine]")
@click.option("--steps", default=12, show_default=True, type=click.IntRange(1), help="Steps to time in each run.")
@click.option("--top", default=12, show_default=True, type=click.IntRange(1), help="Rows of the list.")
@click.option("--json", "json_", metavar="FILE", help="Write what was found as JSON; - for stdout.")
@click.option("--html", metavar="FILE", help="Write a page: the list, and memory over one step as a picture.")
@click.option("-q", "--quiet", is_flag=True, help="Print no report.")
@click.pass_context
def command(ctx: click.Context, **options: Any) -> None:
    """What memory would cost to give back.

    RUN is the folder of a run, or its trace.longpole; a SCRIPT is run first, with everything after its name as its
    arguments. The list says which layers, computed again in backward instead of kept, bring the peak down by how
    much, and how much longer a step would take.
    """
    target: Target | None = ctx.obj
    if target is None:
        raise LongpoleError(
            "memory of what? longpole memory longpole-runs/train-0001, or longpole memory train.py [ARGS]"
        )
    for name in ("json_", "html"):
        if options[name] not in (None, "-"):
            check_writable(Path(options[name]), f"--{name.rstrip('_')}")
    _check_together(options)
    budgets = _budgets(options)
    trace_file = _trace_file(target)
    if trace_file is not None:
        found, account = _of_trace(trace_file, budgets, options)
    else:
        check(target)
        found, account = _of_script(
            [*(["-m"] if target.is_module else []), target.name, *target.args], budgets, options
        )
    _publish(found, account, options)


def _check_together(options: dict[str, Any]) -> None:
    for name in ("batch_flag", "batches", "budget"):
        if options[name] is not None and not options["largest_batch"]:
            hint = "; for a budget of the price list there is --fit" if name == "budget" else ""
            raise LongpoleError(f"--{name.replace('_', '-')} is for --largest-batch, which was not given{hint}")


def _budgets(options: dict[str, Any]) -> dict[str, int]:
    from longpole.whatif.sizes import parse_bytes

    return {name: parse_bytes(options[name], f"--{name}") for name in ("fit", "budget") if options[name] is not None}


def _trace_file(target: Target) -> Path | None:
    """The trace of a run; None for a script."""
    path = Path(target.name)
    if target.is_module or path.suffix == ".py" or (path.is_dir() and (path / "__main__.py").exists()):
        return None
    if path.is_dir():
        path /= "trace.longpole"
        if not path.exists():
            raise LongpoleError(f"{target.name} holds no trace.longpole; give the folder of a run, or a script")
    return path if path.suffix in TRACES else None


def _of_trace(path: Path, budgets: dict[str, int], options: dict[str, Any]) -> tuple[MemoryPrices, Memory]:
    from longpole.analysis.make import study
    from longpole.trace.store import read_trace

    for name, given in (("check", options["check_"]), ("largest-batch", options["largest_batch"])):
        if given:
            raise LongpoleError(f"--{name} runs the script; give the script instead of {path}")
    trace = read_trace(path)
    return _prices(trace, _price_list(trace), budgets), study([trace]).memory


def _price_list(trace: Trace) -> PriceList:
    from longpole.whatif.priced import price_list

    return price_list(trace, _overhead(trace))


def _overhead(trace: Trace) -> Any:
    """Measured with the run's threads; None without torch."""
    if not is_installed("torch"):
        return None
    from longpole.apply.overhead import checkpoint_overhead

    return checkpoint_overhead(trace.info.threads)


def _prices(trace: Trace, prices: PriceList, budgets: dict[str, int]) -> MemoryPrices:
    from longpole.analysis.memory_prices import MemoryPrices

    record = trace.memory_record
    return MemoryPrices(
        script=trace.info.script,
        peak_bytes=prices.peak_bytes,
        step_ms=prices.step_ms,
        noise_ms=prices.noise_ms,
        overhead_known=is_installed("torch"),
        prices=prices.list(),
        fit=prices.fit(budgets["fit"]) if "fit" in budgets else None,
        notes=list(record.steps[0].notes) if record is not None else [],
    )


def _of_script(target: list[str], budgets: dict[str, int], options: dict[str, Any]) -> tuple[MemoryPrices, Memory]:
    from msgspec.structs import replace

    from longpole.whatif.changes import told
    from longpole.whatif.memory_runs import check_price, run_for_memory

    _say(options, f"running {target[0] if target[0] != '-m' else target[1]}")
    run = run_for_memory(target, told(), options["steps"])
    found = _prices(run.trace, _price_list(run.trace), budgets)
    price = _to_check(found.fit, found.prices)
    if options["check_"] and price is not None:
        _say(options, f"running it with --checkpoint {price.names}")
        found = replace(found, checked=check_price(target, price, run, options["steps"]))
    if options["largest_batch"]:
        found = replace(found, largest_batch=_largest(target, run, budgets.get("budget"), options))
    return found, run.study.memory


def _to_check(fit: FitPrice | None, prices: list[Price]) -> Price | None:
    """The set for the budget; without one, the first of the list."""
    if fit is not None:
        return fit.price if fit.price is not None and fit.price.layers else None
    return prices[0] if prices else None


def _largest(target: list[str], run: MemoryRun, budget: int | None, options: dict[str, Any]) -> LargestBatch:
    from longpole.whatif.largest_batch import largest_batch
    from longpole.whatif.memory_runs import machine_budget, run_batch

    points: list[Any] = []
    for batch in _batches(run, options):
        _say(options, f"running it with a batch of {batch}")
        points.append(run_batch(target, batch, options["batch_flag"], options["steps"]))
    size, origin = (budget, "given") if budget is not None else machine_budget(run)
    found = largest_batch(points, size, origin)
    return _checked_batch(found, target, options) if options["check_"] else found


def _checked_batch(found: LargestBatch, target: list[str], options: dict[str, Any]) -> LargestBatch:
    """The largest batch run, or twice the largest measured where the largest that fits is far more work than that."""
    from msgspec.structs import replace

    from longpole.analysis.memory_prices import Checked
    from longpole.whatif.largest_batch import predicted_peak
    from longpole.whatif.memory_runs import run_batch

    if found.batch_size is None:
        return found
    batch = min(found.batch_size, 2 * found.points[-1].batch_size)
    _say(options, f"running it with a batch of {batch}")
    measured = run_batch(target, batch, options["batch_flag"], options["steps"])
    predicted = int(predicted_peak(found.points, batch))
    return replace(found, checked=Checked("", predicted, measured.peak_bytes), checked_batch=batch)


def _batches(run: MemoryRun, options: dict[str, Any]) -> tuple[int, ...]:
    from longpole.whatif.memory_runs import batches_round

    text: str | None = options["batches"]
    if text is None:
        batch = run.study.run.batch_size
        if batch is None:
            raise LongpoleError("the script's batch is not known; give some to measure: --batches 8,16,32")
        return batches_round(batch)
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 0 < int(word) < 10**9 for word in words) or len(set(words)) < 2:
        raise LongpoleError(f"--batches {text}: two or more different numbers, with commas: --batches 8,16,32")
    return tuple(sorted({int(word) for word in words}))


def _say(options: dict[str, Any], text: str) -> None:
    if not options["quiet"]:
        click.echo(f"longpole: {text}", err=True)


def _publish(found: MemoryPrices, account: Memory, options: dict[str, Any]) -> None:
    import msgspec

    from longpole.cli.output import write_text

    if not options["quiet"]:
        _show(found, options["top"])
    text = msgspec.json.format(msgspec.json.encode(found), indent=1).decode()
    if options["json_"] == "-":
        sys.stdout.write(text + "\n")
    elif options["json_"] is not None:
        write_text(Path(options["json_"]), text)
    if options["html"] is not None:
        from longpole.report.prices_page import prices_page

        write_text(Path(options["html"]), prices_page(found, account))


def _show(found: MemoryPrices, top: int) -> None:
    from rich.console import Console

    from longpole.report.lines import write_lines
    from longpole.report.prices import price_lines

    console = Console(stderr=True)
    write_lines(price_lines(found, min(max(console.width, 60), 132), top), console)
