"""`longpole machine`: measure what this machine can do, keep it, show it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from longpole.cli.interrupted import leave_interrupted
from longpole.cli.output import write_or_print, write_text
from longpole.cli.run_folder import check_writable
from longpole.cli.threads import THREADS
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from longpole.machine.ceilings import Ceilings, Delay, Rate

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "json_path", metavar="FILE", help="Write the ceilings as JSON; - for stdout.")
@click.option(
    "--html", "html_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the roofline as a page."
)
@click.option("--again", is_flag=True, help="Measure again; the better of both is kept.")
@click.option("--budget", type=click.FloatRange(5, 600), default=30.0, show_default=True, help="Seconds to spend.")
@click.option("--threads", type=THREADS, help="Threads for torch; its own number where left out.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option(
    "--peaks", is_flag=True, help="List data-sheet peaks with their sources (--json too), and measure nothing."
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    json_path: str | None, html_path: Path | None, again: bool, budget: float,
    threads: int | None, device: str, peaks: bool, quiet: bool,
) -> None:  # fmt: skip
    """Measure what this machine can do: arithmetic, memory, dispatch, all-reduce.

    The result is kept in the user's cache directory for this hardware, number of threads and torch; `longpole
    run` and `longpole open` compare each operation with it.
    """
    for path, option in ((json_path, "--json"), (html_path, "--html")):
        if path not in (None, "-"):
            check_writable(Path(path), option)  # told before a minute is spent on measuring
    if peaks:
        _tell_peaks(json_path)
        return
    found = None if again else _kept(threads, device)
    fresh = found is None
    if found is None:
        try:
            found = _measure(budget, threads, device, quiet)
        except KeyboardInterrupt:
            leave_interrupted("before everything was measured; nothing of it is kept")
    if json_path is not None:
        _write_json(found, json_path)
    if html_path is not None:
        write_text(html_path, _page(found))
    if not quiet:
        click.echo("\n".join(_screen(found, fresh)), err=True)


def _kept(threads: int | None, device: str) -> Ceilings | None:
    from longpole.machine import load_ceilings

    return load_ceilings(threads=threads, device=device)


def _measure(budget: float, threads: int | None, device: str, quiet: bool) -> Ceilings:
    from longpole.machine import load_ceilings, save_ceilings
    from longpole.machine.ceilings import better_of

    try:
        from longpole.bench.ceilings import Plan, measure_machine
    except ImportError as error:
        raise LongpoleError(f"measuring needs torch ({error}); pip install torch") from error
    say = (lambda _: None) if quiet else (lambda what: click.echo(f"longpole: measuring {what} ...", err=True))
    found = measure_machine(Plan(budget_s=budget, threads=threads, device=device), say)
    before = load_ceilings(threads=found.threads, device=device)
    found = found if before is None else better_of(found, before)
    save_ceilings(found)
    return found


def _tell_peaks(json_path: str | None) -> None:
    if json_path is None:
        click.echo("\n".join(_peak_lines()))
        return
    from longpole.machine.peaks import PEAKS

    _write_json({"schema": "longpole.peaks", "version": 1, "unit": "TFLOP/s dense", "peaks": PEAKS}, json_path)


def _write_json(found: object, path: str) -> None:
    import msgspec

    write_or_print(path, msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n")


def _page(found: Ceilings) -> str:
    from longpole.machine.picture import page

    return page(found, list(_rows(found)))


def _screen(found: Ceilings, fresh: bool) -> list[str]:
    from longpole.machine.picture import remarks, text_picture, threads_of

    lines = [f"longpole · {found.hardware.processor} · {threads_of(found)} · torch {found.torch}", ""]
    lines.append(f"  {'':<34}{'best':>14}   {'median (quartiles)':<34}measured on")
    lines += [f"  {what:<34}{best:>14}   {spread:<34}{how}" for what, best, spread, how in _rows(found)]
    lines += [f"  {what:<34}{'not measured':>14}   {why}" for what, why in found.not_measured.items()]
    lines += ["", *text_picture(found), "", *(f"  {remark}" for remark in remarks(found))]
    when = "measured now" if fresh else f"measured {found.measured_at}, kept; --again measures anew"
    return [*lines, f"  {when}; took {found.seconds:.0f} s"]


def _rows(found: Ceilings) -> Iterator[tuple[str, str, str, str]]:
    """(what, best, spread, how) of everything measured."""
    for rates in found.compute.values():
        for rate in rates:
            yield _rate_row(rate.name, rate, "OP/s" if rate.name.startswith("int8") else "FLOP/s")
    for level in found.levels:
        for rate in _best_of_each(level.rates):
            yield _rate_row(f"{level.name} {rate.name}", rate, "B/s")
    for rate in found.links:
        yield _rate_row(rate.name, rate, "B/s")
    for delay in [*found.delays.values(), *found.link_delays]:
        yield _delay_row(delay)


def _best_of_each(rates: Sequence[Rate]) -> list[Rate]:
    """The fastest measurement of read, copy, update, ..., in the order they were made."""
    best: dict[str, Rate] = {}
    for rate in rates:
        best[rate.name] = max(best.get(rate.name, rate), rate, key=lambda each: each.best)
    return list(best.values())


def _rate_row(what: str, rate: Rate, unit: str) -> tuple[str, str, str, str]:
    spread = f"{_scaled(rate.median)}{unit} ({_scaled(rate.low).strip()} to {_scaled(rate.high).strip()})"
    return what, f"{_scaled(rate.best)}{unit}", spread, rate.how


def _delay_row(delay: Delay) -> tuple[str, str, str, str]:
    low, median, high = (f"{ns / 1e3:.2f}" for ns in (delay.low_ns, delay.median_ns, delay.high_ns))
    return delay.name.replace("_", " "), f"{delay.least_ns / 1e3:.2f} us", f"{median} us ({low} to {high})", delay.how


def _scaled(value: float) -> str:
    """Three digits and a prefix, with the space before a unit: "174 G"."""
    scale, prefix = next((pair for pair in _UNITS if value >= pair[0]), _UNITS[-1])
    return f"{value / scale:.3g} {prefix}"


def _peak_lines() -> Iterator[str]:
    from longpole.machine.peaks import PEAKS

    heads = ("fp64", "fp32", "tf32", "bf16", "fp16", "int8")
    yield f"{'TFLOP/s dense (int8: TOP/s)':<28}" + "".join(f"{head:>8}" for head in heads) + "    GB/s  source"
    for peak in PEAKS:
        values = (getattr(peak, head) for head in heads)
        cells = "".join(f"{'-' if value is None else format(value, 'g'):>8}" for value in values)
        yield f"{peak.name:<28}{cells}{peak.memory_gb_per_s:>8g}  {peak.source}"
