"""Results as a document: the conditions, and a table an operation with a line a size and a column a direction."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from longpole.bench.tables import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from longpole.bench.results import Results, Row


def markdown(results: Results) -> Iterator[str]:
    """Lines. A cell is the median in ms, its 95 % interval, and GFLOP/s (GB/s on the bus for collectives)."""
    yield "; ".join(f"{name} {value}" for name, value in results.conditions.items() if value) + "."
    for op, group in groupby(sorted(results.rows, key=_place), key=lambda row: row.op):
        yield from ("", f"## {op}", "", *_table(list(group)))


def _place(row: Row) -> tuple[str, int, str, str, str, str]:
    """Rows of one size and variant together, in the order of the suite."""
    return row.op, row.index, row.label, _split(row)[0], row.dtype, row.cache


def _table(rows: Sequence[Row]) -> Iterator[str]:
    sizes = len({(row.index, row.label) for row in rows})
    yield f"{_many(sizes, 'size')}, {_many(len(rows), 'result')}: {_counts(rows)}."
    done = [row for row in rows if row.skipped is None]
    directions = list(dict.fromkeys(_split(row)[1] for row in done))
    if done:
        yield from (
            "",
            f"| size | {' | '.join(each or 'alone' for each in directions)} | largest error, of what is allowed |",
        )
        yield f"|---|{'---|' * len(directions)}---|"
    for _, group in groupby(done, key=_place):
        yield _line(list(group), directions)
    reasons = Counter(row.skipped for row in rows if row.skipped is not None)
    for reason, count in reasons.items():
        yield from ("", f"Skipped, {count}: {_plain(reason)}.")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _counts(rows: Sequence[Row]) -> str:
    parts = (
        (sum(row.correct is True for row in rows), "agree with what they should be"),
        (sum(row.correct is False for row in rows), "DIFFER"),
        (sum(row.median_ms is not None for row in rows), "timed"),
        (sum(row.skipped is not None for row in rows), "skipped"),
    )
    return ", ".join(f"{count} {what}" for count, what in parts if count)


def _line(rows: Sequence[Row], directions: Sequence[str]) -> str:
    first = rows[0]
    extra = [
        _split(first)[0],
        "" if first.dtype == "fp32" else first.dtype,
        "" if first.cache == "hot" else first.cache,
        "" if first.in_place_ms is None else f"in place {number(first.in_place_ms)}",
    ]
    name = ", ".join(_plain(part) for part in (first.label, *extra) if part)
    cells = {_split(row)[1]: _cell(row) for row in rows}
    return f"| {name} | {' | '.join(cells.get(each, '') for each in directions)} | {_worst(rows)} |"


def _cell(row: Row) -> str:
    if row.median_ms is None:
        return "checked" if row.correct else "WRONG"
    mark = "" if row.settled or row.settled is None else "~"
    rate = f", {number(row.tflops * 1e3)}" if row.tflops else ""
    bus = f", {number(row.bus_gb_per_s)} GB/s" if row.bus_gb_per_s is not None else ""
    wrong = " WRONG" if row.correct is False else ""
    return f"{number(row.median_ms)}{mark} ({number(row.low_ms)} to {number(row.high_ms)}){rate}{bus}{wrong}"


def _worst(rows: Iterable[Row]) -> str:
    known = [(row.error, row.tolerance) for row in rows if row.error is not None and row.tolerance is not None]
    if not known:
        return ""
    error, allowed = max(known, key=lambda pair: pair[0] / pair[1] if pair[1] else pair[0])
    return f"{error:.1e} of {allowed:.1e}"


def _split(row: Row) -> tuple[str, str]:
    """("layer", "weight_grad") of "layer weight_grad"; ("", "forward") of "forward"."""
    variant, _, direction = row.direction.rpartition(" ")
    return variant, direction


def _plain(text: str) -> str:
    """Text of others in a table of Markdown: a bar would begin a cell, a bracket a link or a tag."""
    return "".join(f"\\{sign}" if sign in "|[]<>`*\\" else sign for sign in text.replace("\n", " "))
