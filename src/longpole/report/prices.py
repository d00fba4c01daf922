"""The price list of memory on the terminal: what to compute again, the set for a budget, the largest batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.report.figures import byte_size, clean, ms, number, percent
from longpole.report.lines import Column, table, wrapped

if TYPE_CHECKING:
    from longpole.analysis.memory_prices import Checked, FitPrice, LargestBatch, MemoryPrices, Price
    from longpole.report.lines import Line

MOST_NAMES = 60
NONE = (
    "Computing a layer again would free nothing at the peak: at that moment the step holds little for backward that "
    "a layer could give back."
)


def price_lines(found: MemoryPrices, width: int, top: int = 12) -> list[Line]:
    """Everything that was found out, in the order of reading."""
    head = f"longpole · memory of {clean(found.script or 'the run')} · peak {byte_size(found.peak_bytes)} of tensors"
    step = f" · a step takes {ms(found.step_ms)}" if found.step_ms is not None else ""
    lines: list[Line] = [*wrapped(head + step, width, 2, "bold"), []]
    lines += _list(found, width, top)
    if not found.overhead_known and found.prices:
        lines += wrapped("What checkpointing itself costs is not in these times: torch is not here.", width, 2, "dim")
    if found.fit is not None:
        lines += [[], *fit_lines(found.fit, found.script, width)]
    if found.checked is not None:
        lines += [[], *checked_lines(found.checked, width)]
    if found.largest_batch is not None:
        lines += [[], *batch_lines(found.largest_batch, width)]
    for note in found.notes:
        lines += wrapped(note, width, 2, "dim")
    return lines


def _list(found: MemoryPrices, width: int, top: int) -> list[Line]:
    prices = found.prices
    if not prices:
        return wrapped(NONE, width, 2)
    columns = [
        Column("compute again in backward", figures=False, stretch=True),
        *map(Column, ("peak", "less", "step", "more")),
    ]
    rows = [
        [_names(price), byte_size(price.peak_bytes), byte_size(price.freed_bytes), *_cost(price, found.noise_ms)]
        for price in prices
    ]
    lines = table(columns, rows[:top], width)
    if len(rows) > top:
        lines.append([(f"  + {len(rows) - top} that free less", "dim")])
    lines += wrapped(noise_sentence(found), width, 2, "dim")
    return lines


def noise_sentence(found: MemoryPrices) -> str:
    """What is to be known of prices that a run could not show; empty where there are none."""
    if found.noise_ms is None:
        return "How much two runs of this script differ is not known: too few steps were timed (--steps)."
    if not any(is_noise(price, found.noise_ms) for price in found.prices):
        return ""
    return f"~ less than two runs of this script as it is may differ by, {ms(found.noise_ms)}: a run would not show it."


def is_noise(price: Price, noise_ms: float | None) -> bool:
    return noise_ms is not None and price.ms < noise_ms


def _names(price: Price) -> str:
    return clean(price.names, MOST_NAMES)


def _cost(price: Price, noise_ms: float | None) -> list[str]:
    share = "" if price.step_share is None else f"+{percent(price.step_share)}"
    return [f"{'~' if is_noise(price, noise_ms) else ''}+{number(price.ms)} ms", share]


def _sentence(price: Price) -> str:
    share = f" (+{percent(price.step_share)})" if price.step_share is not None else ""
    return (
        f"{_names(price)}: {byte_size(price.freed_bytes)} less at the peak, which is then "
        f"{byte_size(price.peak_bytes)}; +{number(price.ms)} ms a step{share}"
    )


def fit_lines(fit: FitPrice, script: str | None, width: int) -> list[Line]:
    """The set for a budget, and the command that applies it."""
    budget = byte_size(fit.budget_bytes)
    if fit.price is None:
        least = f"; the most is {_sentence(fit.smallest)}" if fit.smallest is not None else ""
        return wrapped(f"No set of layers fits the step into {budget}{least}.", width, 2, "yellow")
    if not fit.price.layers:
        return wrapped(f"The step fits into {budget} as it is.", width, 2)
    gap = f"at most {ms(fit.gap_ms)} over the cheapest" if fit.gap_ms else "no other set is cheaper"
    lines = wrapped(f"To fit into {budget}, compute again {_sentence(fit.price)}; {gap}.", width, 2, "bold")
    lines.append([(f"  longpole run --checkpoint '{fit.price.names}' {clean(script or 'train.py')}", "")])
    return lines


def checked_lines(checked: Checked, width: int) -> list[Line]:
    """Predicted beside measured."""
    lines: list[Line] = []
    predicted, measured = checked.predicted_peak_bytes, checked.measured_peak_bytes
    off = "" if not measured else f", {number(abs(predicted / measured - 1) * 100, 2)} % off"
    text = f"Checked by running it: the peak is {byte_size(measured)}, {byte_size(predicted)} was predicted{off}."
    lines += wrapped(text, width, 2)
    if checked.predicted_ms is not None and checked.measured_ms is not None:
        lines += wrapped(_longer(checked, checked.predicted_ms, checked.measured_ms), width, 2)
    return lines


def _longer(checked: Checked, predicted_ms: float, measured_ms: float) -> str:
    low, high = checked.measured_ms_low, checked.measured_ms_high
    more = f"A step took {number(abs(measured_ms))} ms {'longer' if measured_ms >= 0 else 'less'}"
    if low is None or high is None:
        return f"{more}; {number(predicted_ms)} ms longer was predicted."
    hidden = " The noise between the two runs hides it; more --steps narrow that." if low <= 0 <= high else ""
    return f"{more} ({number(low)} to {number(high)} longer); {number(predicted_ms)} ms longer was predicted.{hidden}"


def batch_lines(found: LargestBatch, width: int) -> list[Line]:
    """The measured batches, the line through them, and the largest that fits."""
    points = ", ".join(f"{point.batch_size}: {byte_size(point.peak_bytes)}" for point in found.points)
    lines = wrapped(f"Peak by batch: {points}.", width, 2)
    if found.sample_bytes > 0:
        text = (
            f"{byte_size(max(found.fixed_bytes, 0))} whatever the batch, and {byte_size(found.sample_bytes)} a sample."
        )
        lines += wrapped(text, width, 2)
    budget = f"{byte_size(found.budget_bytes)} ({found.budget_from})"
    range_ = (
        "" if found.low is None or found.high is None or found.low == found.high else f" ({found.low} to {found.high})"
    )
    if found.batch_size is not None:
        lines += wrapped(f"The largest batch that fits into {budget}: {found.batch_size}{range_}.", width, 2, "bold")
    elif found.sample_bytes > 0:
        lines += wrapped(f"Not even one sample fits into {budget}.", width, 2, "yellow")
    if found.note:
        lines += wrapped(f"{found.note[0].upper()}{found.note[1:]}.", width, 2, "dim")
    if found.checked is not None:
        lines += wrapped(f"At batch {found.checked_batch}:", width, 2) + checked_lines(found.checked, width)
    return lines
