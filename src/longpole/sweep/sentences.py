"""What a sweep amounts to, in sentences: how parallel over the batch, over cores, and from layer to layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from longpole.analysis.serial_chain import SerialChain
    from longpole.sweep.lines import Figure
    from longpole.sweep.result import BatchResult, BatchRow, Sweep, ThreadResult, ThreadRow

BENT = 0.05  # a step whose mean lies further off its line than this is said to be no line
LEAST_OF_STEP = 0.05  # phases smaller than this are not worth a sentence
NO_END = 20.0  # a limit above this many times is as good as none


def sentences_of(sweep: Sweep) -> list[str]:
    """Answer first. The widest setting stands for all: the most threads, the largest batch."""
    found: list[str] = []
    if sweep.by_batch:
        found += _over_batch(sweep.by_batch[-1], sweep)
    if sweep.by_threads:
        found += _over_threads(sweep.by_threads[-1])
    if sweep.serial_chain is not None:
        found += chain_sentences(sweep.serial_chain)
    return found


def _over_batch(result: BatchResult, sweep: Sweep) -> Iterator[str]:
    step = result.rows[0]
    on = f" on {threads(result.threads)}" if result.threads is not None else ""
    fixed, each = step.fixed_ms, step.per_sample_ms
    yield f"Over the batch: a step takes {spread(fixed)} ms, and {spread(each)} ms for each sample{on}."
    tried = [run.batch or 0 for run in sweep.runs if run.step_ms]
    yield _enough(result.enough, step, max(tried, default=0))
    if step.off_line > BENT:
        yield (
            f"The step is no straight line of the batch: at one of them it lies {step.off_line:.0%} off, "
            "so read these figures as a rough slope."
        )


def _enough(enough: Figure | None, step: BatchRow, largest: int) -> str:
    each, fixed = step.per_sample_ms, step.fixed_ms
    if enough is None or (each.low is not None and each.low <= 0):
        if each.high is not None and each.high * largest < BENT * fixed.value:
            return "A sample more costs next to nothing: larger batches only pay."
        return "What a sample costs is lost in the noise between runs: a quieter machine, or --repeat, would tell."
    if enough.high is not None and enough.high < 1:
        return "There is no fixed cost to speak of: a batch of one is as good, sample for sample."
    span = _interval(enough, 0)
    if enough.value > largest:
        return (
            f"More parallelism over the batch still pays at {largest}: by this fit it stops paying at about "
            f"{enough.value:.0f}{span}, where a sample costs 5 % more than in the largest batches."
        )
    return f"From a batch of about {enough.value:.0f}{span} on, a sample costs at most 5 % more than it ever will."


def _over_threads(result: ThreadResult) -> Iterator[str]:
    step = result.rows[0]
    at = f" at batch {result.batch}" if result.batch is not None else ""
    if step.gained is None:
        yield f"Over threads: what {result.most} of them gave{at} is not known."
        return
    gain = f"{spread(step.gained)} times as fast as 1{at}"
    if step.gained.value <= 1:
        yield f"Over threads: {result.most} gained nothing: {gain}."
        return
    share = f"; {spread(step.serial_share, percent=True)} of one thread's time is serial" if step.serial_share else ""
    yield f"Over threads: {result.most} are {gain}{share}."
    if step.limit is None or step.limit.value > NO_END:
        yield f"No end to what threads beyond {result.most} could give is seen in this fit."
    else:
        yield f"Threads without end would be {spread(step.limit)} times as fast as {result.most}, if the fit holds."
    least = _least_gained(result)
    if least is not None and least.gained is not None:
        yield f"Of the phases, {least.name} gained least: {spread(least.gained)} times."


def _least_gained(result: ThreadResult) -> ThreadRow | None:
    least = LEAST_OF_STEP * result.rows[0].mean_ms
    large = [row for row in result.rows if row.kind == "phase" and row.gained is not None and row.mean_ms > least]
    return min(large, key=lambda row: row.gained.value if row.gained else 0.0) if len(large) > 1 else None


def chain_sentences(chain: SerialChain) -> list[str]:
    """How serial the network is; the survey says the same."""
    calls = f"{chain.layers} of {chain.of_layers} layer calls wait for one another"
    found = [f"From layer to layer: {calls} ({chain.nodes} of {chain.of_nodes} autograd nodes)."]
    if chain.time_ms is not None and chain.work_ms is not None and chain.parallelism is not None:
        found.append(
            f"With room for everything at once, forward and backward would still take {chain.time_ms:.3g} of "
            f"{chain.work_ms:.3g} ms: {chain.parallelism:.2f} layers at work at a time, on average."
        )
    return found


def spread(figure: Figure, percent: bool = False) -> str:
    """`12.3 (11.9 to 12.8)`."""
    return f"{_one(figure.value, percent)}{_interval(figure, None, percent)}"


def _interval(figure: Figure, decimals: int | None, percent: bool = False) -> str:
    if figure.low is None and figure.high is None:
        return ""
    low, high = (_end(value, decimals, percent) for value in (figure.low, figure.high))
    return f" ({low} to {high})"


def _end(value: float | None, decimals: int | None, percent: bool) -> str:
    if value is None:
        return "no end"
    return _one(value, percent) if decimals is None else f"{value:.{decimals}f}"


def _one(value: float, percent: bool) -> str:
    return f"{value * 100:.0f} %" if percent else _plain(value)


def _plain(value: float) -> str:
    decimals = next((places for places, least in enumerate((100, 10, 1)) if abs(value) >= least), 3)
    return f"{value:.{decimals}f}"


def threads(count: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{count} thread{'s' if count != 1 else ''}"


def warnings_of(sweep: Sweep) -> list[str]:
    """What makes the figures doubtful, or is missing from them."""
    failed = {str(run.point): run.failed for run in sweep.runs if run.failed}
    found = [f"{point} could not be measured: {why}" for point, why in failed.items()]
    found += _wrong_batches(sweep)
    most = max((run.threads or 0 for run in sweep.runs), default=0)
    if sweep.cores is not None and most > sweep.cores:
        found.append(f"{most} threads share {sweep.cores} cores: beyond that number threads cannot gain.")
    if any(row.fixed_ms.low is None for result in sweep.by_batch for row in result.rows[:1]):
        found.append("Two batches run once leave no interval: name a third one, or give --repeat 2.")
    return found


def _wrong_batches(sweep: Sweep) -> Sequence[str]:
    wrong = sorted({(r.batch, r.seen_batch) for r in sweep.runs if r.batch and r.seen_batch not in (None, r.batch)})
    if not wrong:
        return []
    asked, seen = wrong[0]
    return [
        f"At batch {asked} the network's first input had {seen} rows: per sample means per unit of the batch named."
    ]
