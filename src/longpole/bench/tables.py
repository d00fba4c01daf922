"""Results as text and as a page: a row a piece, and beside what others published. Formats only."""

from __future__ import annotations

import math
import re
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from longpole.document import plain_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from longpole.bench.published import Published
    from longpole.bench.results import Results, Row

_BAR = 24
_LONGEST = 320  # pixels of the fastest device's bar on a page
_STYLE = """
body{font-size:14px;margin:2rem;max-width:none;padding:0}section{overflow-x:auto}
td,th{padding:.15rem .9rem .15rem 0;text-align:left}rect{fill:#4a90b8}.here{fill:#c8772e}
"""
_NARROWEST, _BESIDE_NAME = 51, 96  # signs of a name at least; signs of the other columns of its line


def lines(rows: Sequence[Row], width: int | None = None) -> Iterator[str]:
    """A table for a terminal of that width; a `!` marks a wrong result, a `~` a median that did not settle.

    Names are cut where the terminal is narrow, never to under 51 signs, and whole where there is no terminal.
    """
    folded = list(_folded(rows))
    wide = _wide([_name(row, alike) for row, alike in folded], width)
    head = f"  {'operation':<{wide}}{'direction':<22}{'median ms':>11}  {'95 % interval':<22}{'GFLOP/s':>9}{'GB/s':>8}"
    yield f"{head}  of bound"
    for row, alike in folded:
        name = f"{cut(_name(row, alike), wide - 1):<{wide}}"
        if row.skipped is not None:
            yield f"  {name}skipped: {row.skipped}"
        elif row.median_ms is None and row.error is not None:
            yield f"  {name}{row.direction:<22}{verdict(row)}"
        else:
            yield _timed(row, name)


def _wide(names: Sequence[str], width: int | None) -> int:
    """Of the column of names, with the space behind it."""
    longest = max(map(len, names), default=0)
    return max(_NARROWEST, min(longest, longest if width is None else width - _BESIDE_NAME)) + 1


def _name(row: Row, alike: int) -> str:
    return f"{row.op} {row.label}" if alike == 1 else f"{alike} sizes of {row.op}"


def cut(text: str, most: int) -> str:
    """At most so many signs; three points where some are left out."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def verdict(row: Row) -> str:
    """What checking a result gave."""
    exact = "the exact result" if row.dtype == "int8" else "float64"
    if row.correct is False:
        return f"differs from {exact} by {number(row.error)}, allowed {number(row.tolerance)} !"
    return f"agrees with {exact} by {number(row.error)}, allowed {number(row.tolerance)}"


def _folded(rows: Sequence[Row]) -> Iterator[tuple[Row, int]]:
    """(row, 1), and neighbours skipped for one reason as (the first, how many)."""
    for (_, reason), group in groupby(rows, key=lambda row: (row.op, row.skipped)):
        alike = list(group)
        if reason is not None and len(alike) > 1:
            yield alike[0], len(alike)
        else:
            yield from ((row, 1) for row in alike)


def _timed(row: Row, name: str) -> str:
    mark = "!" if row.correct is False else "" if row.settled or row.settled is None else "~"
    interval = f"{number(row.low_ms)} to {number(row.high_ms)}"
    share = f"{row.bound_ms / row.median_ms:.0%}" if row.bound_ms and row.median_ms else ""
    on_bus = row.bus_gb_per_s is not None
    bandwidth = number(row.bus_gb_per_s if on_bus else row.gb_per_s)
    rate = number(row.tflops * 1e3 if row.tflops else None)
    cold = " cold" if row.cache == "cold" else ""
    return (
        f"  {name}{row.direction + cold:<22}{number(row.median_ms):>10}{mark:<1}  {interval:<22}"
        f"{rate:>9}{bandwidth:>8}  {'on the bus' if on_bus else share}"
    )


def mine_lines(rows: Sequence[Row], width: int | None = None) -> Iterator[str]:
    """One's own operations: alone beside in place, a call each, and what both come to in a step."""
    names = [f"{row.op} {_tensors(row.label)}" for row in rows]
    wide = _wide(names, width)
    yield (
        f"  {'operation':<{wide}}{'cache':<6}{'calls a step':>13}{'in place ms':>13}{'alone ms':>11}  "
        f"{'95 % interval':<20}{'in place / alone':>16}  alone, of bound"
    )
    skipped: dict[str, list[str]] = {}
    for row, whole in zip(rows, names, strict=True):
        name = f"{cut(whole, wide - 1):<{wide}}{row.cache:<6}"
        if row.skipped is not None:
            skipped.setdefault(row.skipped.removeprefix(f"{row.op} "), []).append(row.op)
            continue
        if row.median_ms is None:
            yield f"  {name}{verdict(row)}"
            continue
        mark = "!" if row.correct is False else "" if row.settled else "~"
        ratio = f"{row.in_place_ms / row.median_ms:.2f}" if row.in_place_ms else ""
        share = f"{row.bound_ms / row.median_ms:.0%}" if row.bound_ms else ""
        calls = "" if row.calls is None else f"{row.calls:g}"
        yield (
            f"  {name}{calls:>13}{number(row.in_place_ms):>13}{number(row.median_ms):>10}"
            f"{mark:<1}  {f'{number(row.low_ms)} to {number(row.high_ms)}':<20}{ratio:>16}  {share}"
        )
    for reason, names in skipped.items():
        yield f"  not run alone: {', '.join(dict.fromkeys(names))}: {reason}"
    yield from _in_a_step(rows)


def _tensors(shapes: str) -> str:
    """Without the empty shapes at the end, which are those of numbers and options."""
    return re.sub(r"(,\[\])+\]$", "]", shapes)


def _in_a_step(rows: Sequence[Row]) -> Iterator[str]:
    first = rows[0].cache if rows else "hot"
    known = [(row.calls, row.in_place_ms, row.median_ms) for row in rows if row.cache == first]
    total = sum(calls * place for calls, place, _ in known if calls and place is not None)
    both = [(calls * place, calls * alone) for calls, place, alone in known
            if calls and place is not None and alone is not None]  # fmt: skip
    if both and total:
        place, alone = (sum(each) for each in zip(*both, strict=True))
        yield (
            f"  In a step, {len(both)} of {len(known)} operations, {place / total:.0%} of the time of all: "
            f"{number(place)} ms in place, {number(alone)} ms alone."
        )


def number(value: float | None) -> str:
    """Three digits that count; "" for not known."""
    if value is None:
        return ""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def beside_lines(pairs: Sequence[tuple[Row, Sequence[Published]]]) -> Iterator[str]:
    """This machine and published devices, bars by speed; then how the devices compare over all, and footnotes."""
    notes: dict[str, int] = {}
    wide = max((len(f"{each.device}, {each.sheet}") for _, others in pairs for each in others), default=0) + 2
    for row, others in pairs:
        yield f"  {_heading(row)}"
        for name, ms, rate, marks, share in _side_by_side(row, others, notes):
            bar = "#" * max(1, round(_BAR * share)) if ms > 0 else ""
            yield f"    {name:<{wide}}{number(ms):>9} ms  {rate:>15}  {bar}{marks}"
    yield from (f"  {sentence}" for sentence in _over_all(pairs))
    yield from (f"  [{mark}] {note}" for note, mark in notes.items())


def _heading(row: Row) -> str:
    return " ".join(
        part for part in (row.op, row.label, row.direction, row.cache if row.cache != "hot" else "") if part
    )


def _side_by_side(
    row: Row, others: Sequence[Published], notes: dict[str, int]
) -> Iterator[tuple[str, float, str, str, float]]:
    """(name, milliseconds, rate, footnotes, share of the fastest's speed) of this machine and of each device."""
    found = [("here", row.median_ms or 0.0, _rate(row), ""), *(_other(each, notes) for each in others)]
    fastest = min((ms for _, ms, _, _ in found if ms > 0), default=0.0)
    for name, ms, rate, marks in found:
        yield name, ms, rate, marks, fastest / ms if ms > 0 else 0.0


def _over_all(pairs: Sequence[tuple[Row, Sequence[Published]]]) -> Iterator[str]:
    ratios: dict[str, list[float]] = {}
    for row, others in pairs:
        for each in others:
            if row.median_ms and each.ms > 0:
                ratios.setdefault(f"{each.device} ({each.sheet})", []).append(row.median_ms / each.ms)
    for name, found in ratios.items():
        middle = math.exp(sum(map(math.log, found)) / len(found))
        count = f"geometric mean of {len(found)} results" if len(found) > 1 else "one result"
        yield f"{name}: {middle:.3g} times as fast as here, {count}"


def _rate(each: Row | Published) -> str:
    """GFLOP/s, or GB/s on the bus for collectives."""
    if each.bus_gb_per_s is not None:
        return f"{number(each.bus_gb_per_s)} GB/s bus"
    return f"{number(each.tflops * 1e3)} GFLOP/s" if each.tflops else ""


def _other(each: Published, notes: dict[str, int]) -> tuple[str, float, str, str]:
    marks = "".join(f" [{notes.setdefault(note, len(notes) + 1)}]" for note in each.footnotes)
    return f"{each.device}, {each.sheet}", each.ms, _rate(each), marks


_COLUMNS: Sequence[tuple[str, Callable[[Row], object]]] = (
    ("operation", lambda row: row.op), ("size", lambda row: row.label), ("direction", lambda row: row.direction),
    ("type", lambda row: row.dtype), ("cache", lambda row: "" if row.cache == "hot" else row.cache),
    ("median ms", lambda row: row.median_ms), ("low ms", lambda row: row.low_ms),
    ("high ms", lambda row: row.high_ms), ("settled", lambda row: "no" if row.settled is False else None),
    ("in place ms", lambda row: row.in_place_ms),
    ("calls a step", lambda row: row.calls), ("GFLOP/s", lambda row: row.tflops * 1e3 if row.tflops else None),
    ("GB/s", lambda row: row.gb_per_s), ("GB/s on the bus", lambda row: row.bus_gb_per_s),
    ("bound ms", lambda row: row.bound_ms), ("error", lambda row: row.error), ("allowed", lambda row: row.tolerance),
    ("correct", lambda row: {True: "yes", False: "NO", None: None}[row.correct]),
    ("skipped", lambda row: row.skipped), ("note", lambda row: row.note),
)  # fmt: skip


def page(results: Results, pairs: Sequence[tuple[Row, Sequence[Published]]]) -> str:
    """A page that stands alone: conditions, every row, and published devices with bars. Everything is escaped."""
    shown = [(name, of) for name, of in _COLUMNS if any(of(row) not in (None, "") for row in results.rows)]
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in shown)
    body = "".join(f"<tr>{''.join(_cell(of(row)) for _, of in shown)}</tr>" for row in results.rows)
    facts = "; ".join(f"{escape(name)} {escape(value)}" for name, value in results.conditions.items())
    table = f"<section><table><tr>{head}</tr>{body}</table></section>"
    return plain_page("longpole: operations", _STYLE, f"<h1>Operations</h1><p>{facts}</p>{table}{_bars(pairs)}")


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"<td>{escape(text)}</td>"


def _bars(pairs: Sequence[tuple[Row, Sequence[Published]]]) -> str:
    parts: list[str] = []
    notes: dict[str, int] = {}
    for row, others in pairs:
        parts.append(f"<h3>{escape(_heading(row))}</h3>")
        for name, ms, rate, marks, share in _side_by_side(row, others, notes):
            here = ' class="here"' if name == "here" else ""
            width = f"{_LONGEST * share:.1f}"
            bar = f'<svg width="{width}" height="10" aria-hidden="true"><rect{here} width="{width}" height="10"/></svg>'
            parts.append(f"<div>{bar} {escape(name)} {ms:.4g} ms, {escape(rate)}{escape(marks)}</div>")
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in _over_all(pairs))
    footnotes = "".join(f"<p>[{mark}] {escape(note)}</p>" for note, mark in notes.items())
    return f"<h2>Beside other results</h2>{sentences}{''.join(parts)}{footnotes}" if pairs else ""
