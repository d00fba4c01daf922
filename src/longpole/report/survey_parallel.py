"""How parallel each network of a survey is, as text: over the batch, inside a layer, from layer to layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from longpole.report.figures import DASH, clean, ms, number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.analysis.survey import Estimate, Row

# A column's heading and what it says of a row; a dash is not known.
Shown = tuple[str, "Callable[[Row], str]"]
NO_END = 20.0  # a limit above this many times is as good as none
LONGEST_REASON = 200
FAR_SLOWER = 0.6  # times as fast

BATCH_NOTE = (
    "* fixed: what a step costs however small its batch; pays to: the batch from which a sample costs at most 5 % more "
    "than in the largest ones. Both from this batch and a quarter of it, which show no bend: longpole sweep tries more."
)
THREADS_NOTE = (
    "* gave: times as fast as on one thread; serial: the part of one thread's time that more do not shorten; "
    "limit: times as fast as now with threads without end."
)
CHAIN_NOTE = (
    "* in a row: layers that wait for one another, of all; least: what forward and backward would still take, of what "
    "they take, if all that need not wait ran at once."
)
LINE_NOTE = "* There brackets hold the true figure, 95 times of 100, if the two settings lie on the line."


def heading_of_threads(rows: Sequence[Row]) -> str:
    """`2 threads gave` where all rows tried as many, else `threads gave`."""
    most = {max(row.over_threads.threads) for row in rows if row.over_threads}
    return f"{most.pop()} threads gave" if len(most) == 1 else "threads gave"


def columns_of(rows: Sequence[Row]) -> list[list[Shown]]:
    """The columns in groups that belong together, less those that no row knows anything of."""
    groups: list[list[Shown]] = [
        [
            ("fixed", lambda row: cost(row.over_batch.fixed_ms) if row.over_batch else DASH),
            ("each sample", lambda row: cost(row.over_batch.per_sample_ms) if row.over_batch else DASH),
            ("pays to", pays_to),
        ],
        [
            (heading_of_threads(rows), lambda row: gave(row.over_threads.gained if row.over_threads else None)),
            ("serial", lambda row: serial_share(row.over_threads.serial_share if row.over_threads else None)),
            ("limit", lambda row: limit(row.over_threads.limit if row.over_threads else None)),
        ],
        [
            ("in a row", lambda row: f"{row.serial.layers} of {row.serial.of_layers}" if row.serial else DASH),
            ("least", lambda row: _whole(row.serial.chain_share) if row.serial else DASH),
        ],
    ]
    return known_of(groups, rows)


def known_of(groups: Sequence[Sequence[Shown]], rows: Sequence[Row]) -> list[list[Shown]]:
    """Less the columns that are a dash in every row; the notes say why."""
    known = [[column for column in group if any(column[1](row) != DASH for row in rows)] for group in groups]
    return [group for group in known if group]


def notes_of(rows: Sequence[Row]) -> list[str]:
    """What the columns mean, and why a figure is not known."""
    batch, threads = any(row.over_batch for row in rows), any(row.over_threads for row in rows)
    notes = ((batch, BATCH_NOTE), (threads, THREADS_NOTE), (any(row.serial for row in rows), CHAIN_NOTE),
             (batch or threads, LINE_NOTE))  # fmt: skip
    return [note for is_said, note in notes if is_said] + slowed(rows) + not_known(rows)


def slowed(rows: Sequence[Row]) -> list[str]:
    """A word on networks that more threads made far slower: the network is seldom to blame."""
    names = [
        row.network
        for row in rows
        if row.over_threads
        and row.over_threads.gained
        and row.over_threads.gained.high is not None
        and row.over_threads.gained.high < FAR_SLOWER
    ]
    if not names:
        return []
    said = (
        f"* More threads made {', '.join(names)} far slower: other programs were at work on these cores, and threads "
    )
    return [said + "waited for each other. Measure again on a quiet machine, with --again."]


def cost(estimate: Estimate) -> str:
    """`3.21 ms (2.90–3.50)`; a fit may say less than nothing, which no cost is."""
    return span(estimate, lambda value: ms(max(value, 0.0)), lambda value: number(max(value, 0.0)))


def pays_to(row: Row) -> str:
    """Where more batch stops paying: `1 065 (900–1 250)`, `1` where there is no fixed cost to speak of."""
    found = row.over_batch
    if found is None or found.enough is None:
        return DASH
    enough = found.enough
    if enough.high is not None and enough.high < 1:
        return "1"
    return span(enough, _samples, _samples)


def gave(estimate: Estimate | None) -> str:
    """`1.62x (1.55–1.70)`."""
    return DASH if estimate is None else span(estimate, lambda value: f"{value:.2f}x", lambda value: f"{value:.2f}")


def serial_share(estimate: Estimate | None) -> str:
    """`23 % (15–32)`; a fit may say more than all, where threads made it slower, or less than nothing."""
    if estimate is None:
        return DASH
    if estimate.low is not None and estimate.low > 1:
        return "all"
    if estimate.high is not None and estimate.high < 0:
        return "none"
    return span(estimate, lambda value: f"{_cut(value) * 100:.0f} %", lambda value: f"{_cut(value) * 100:.0f}")


def limit(estimate: Estimate | None) -> str:
    """`1.8x (1.4–2.9)`, `over 2.1x` where the noise leaves the upper end open, `none` where threads made it slower."""
    if estimate is None or estimate.low is None:
        return DASH
    if estimate.high is not None and 0 < estimate.high < 1:
        return "none"
    low = max(estimate.low, 1.0)
    if estimate.high is None or not 0 < estimate.high < NO_END or not estimate.value < NO_END:
        return f"over {low:.1f}x"
    return f"{max(estimate.value, 1.0):.1f}x ({low:.1f}–{max(estimate.high, 1.0):.1f})"


def not_known(rows: Sequence[Row]) -> list[str]:
    """Why a figure is not known, a line for each reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for setting, why in row.not_known.items():
            reasons.setdefault((setting, why), []).append(row.network)
    said = {"batch": "What the batch costs is", "threads": "What threads gave is"}
    return [
        f"* {said.get(setting, setting)} not known for {', '.join(names)}: {clean(why, LONGEST_REASON)}."
        for (setting, why), names in reasons.items()
    ]


def span(estimate: Estimate, value: Callable[[float], str], end: Callable[[float], str]) -> str:
    """A figure with its interval in brackets; an open end is `…`, and without either there are no brackets."""
    if not math.isfinite(estimate.value):
        return DASH
    if estimate.low is None and estimate.high is None:
        return value(estimate.value)
    low, high = ("…" if one is None else end(one) for one in (estimate.low, estimate.high))
    return f"{value(estimate.value)} ({low}–{high})"


def _samples(value: float) -> str:
    return number(max(value, 1.0), 0)


def _cut(share: float) -> float:
    return min(max(share, 0.0), 1.0)


def _whole(share: float | None) -> str:
    return DASH if share is None else f"{share * 100:.0f} %"
