"""Rules for a comparison to pass: `step>5%`, `phase:data>10ms`. A rule is broken only beyond noise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from longpole.analysis.compare import Comparison, Row

DEFAULT = "step>1%"
FORM = re.compile(r"\s*(?:(step|phase|device|op[ _-]class|layer|op):)?\s*(.+?)\s*>\s*(\d+(?:\.\d+)?)\s*(%|ms)\s*")
SHOWN = 12


@dataclass(frozen=True, slots=True)
class Rule:
    """A row may not become slower by more than `most`: percent of its time in A, or milliseconds a step."""

    section: str | None  # None: of any
    name: str
    most: float
    percent: bool

    def __str__(self) -> str:
        where = f"{self.section}:" if self.section else ""
        return f"{where}{self.name}>{self.most:g}{'%' if self.percent else 'ms'}"


def parse_rules(texts: Iterable[str]) -> list[Rule]:
    """Rules from texts, each with one or several between commas. Raises LongpoleError with an example."""
    found: list[Rule] = []
    for text in (part for one in texts for part in one.split(",") if part.strip()):
        match = FORM.fullmatch(text)
        if match is None:
            raise LongpoleError(
                f"--fail-if {text.strip()!r} is no rule: write NAME>AMOUNT with % or ms, as in 'step>5%', "
                "'phase:data>10ms' or 'op_class:matmul>3%'"
            )
        section, name, most, unit = match.groups()
        section = re.sub(r"[_-]", " ", section) if section else None
        found.append(Rule(section, name, float(most), unit == "%"))
    return found


def apply_rules(comparison: Comparison, rules: Iterable[Rule]) -> None:
    """Fills the comparison's failures and undecided rules. Raises LongpoleError where a rule names no row."""
    for rule in rules:
        for row in _rows_of(comparison, rule):
            if _broken(row, rule):
                comparison.failures.append(_told(row, rule))
            elif row.verdict == "not known" and _beyond(row, rule):
                comparison.undecided.append(
                    f"{rule}: not known, {row.name} went from {_ms(row.before_ms)} to {_ms(row.after_ms)} within noise."
                )


def _rows_of(comparison: Comparison, rule: Rule) -> list[Row]:
    rows = [
        row
        for row in comparison.rows
        if row.name == rule.name and (rule.section is None or row.section == rule.section)
    ]
    if rows or not comparison.rows:
        return rows
    known = [row.name for row in comparison.rows if rule.section is None or row.section == rule.section]
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    raise LongpoleError(f"--fail-if {rule}: neither A nor B has it; there are {', '.join(known[:SHOWN])}{more}")


def _broken(row: Row, rule: Rule) -> bool:
    return row.verdict in ("slower", "only in B") and _beyond(row, rule)


def _beyond(row: Row, rule: Rule) -> bool:
    if not rule.percent:
        return row.delta_ms > rule.most
    return row.ratio is None or row.ratio - 1 > rule.most / 100


def _told(row: Row, rule: Rule) -> str:
    ratio = f" ({100 * (row.ratio - 1):+.1f} %)" if row.ratio is not None else ""
    return f"{rule}: {row.name} went from {_ms(row.before_ms)} to {_ms(row.after_ms)}{ratio}, beyond noise."


def _ms(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.3g} ms"
