"""Which rank is unlike the others, by what figures, and why as far as their traces show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_results import OddRank
from longpole.analysis.rank_host import longest_excess, slower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.analysis.device_results import RankFigures, Straggler
    from longpole.analysis.rank_host import Host

LEAST_RANKS = 3  # of two, nobody can say which is the odd one
LEAST_SHARE = 0.03  # of the window, by which a share must lie outside the others'
LEAST_LATE = 0.05  # of its recording, for a late start to be told
SLOWER = 1.1  # times as long as elsewhere, for ops to be called slower
SHARES: Sequence[tuple[str, str]] = (
    ("idle_share", "idle"),
    ("communication_share", "communication"),
    ("compute_share", "compute"),
)


def outside(value: float, others: Sequence[float], least: float) -> float:
    """By how much a value lies outside the others' range (10 to 90 %), 0 where that is within `least` or the range."""
    low, high = np.percentile(others, [10, 90])
    beyond = max(value - high, low - value)
    return float(beyond) if beyond > max(least, high - low) else 0.0


def odd_ranks(figures: Sequence[RankFigures], hosts: Sequence[Host], stragglers: Sequence[Straggler]) -> list[OddRank]:
    """The ranks whose shares of idle, communication or compute lie outside those of the others."""
    if len(figures) < LEAST_RANKS:
        return []
    odd = {
        index: told
        for index in range(len(figures))
        if (told := [name for name, _ in SHARES if _stands_out(figures, index, name)])
    }
    if len(odd) * 2 > len(figures):
        return []
    usual = [index for index in range(len(figures)) if index not in odd]
    return [_odd(index, names, usual, figures, hosts, stragglers) for index, names in odd.items()]


def _stands_out(figures: Sequence[RankFigures], index: int, name: str) -> bool:
    value = getattr(figures[index], name)
    others = [getattr(one, name) for place, one in enumerate(figures) if place != index]
    known = [other for other in others if other is not None]
    return value is not None and len(known) >= LEAST_RANKS - 1 and outside(value, known, LEAST_SHARE) > 0


def _odd(
    index: int,
    names: Sequence[str],
    usual: Sequence[int],
    figures: Sequence[RankFigures],
    hosts: Sequence[Host],
    stragglers: Sequence[Straggler],
) -> OddRank:
    one = figures[index]
    parts = [
        f"{_percent(getattr(one, name))} {word} against {_range([getattr(figures[u], name) for u in usual], _percent)}"
        for name, word in SHARES
        if name in names
    ]
    sentence = f"Rank {one.rank} is unlike the others: {', '.join(parts)} elsewhere."
    why = [
        *_waited_for(one, usual, figures, stragglers),
        *_host_late(index, usual, figures, hosts),
        *_host_slow(index, usual, hosts),
        *_more_or_less_work(one, [figures[u] for u in usual]),
        *_recording(one, figures),
    ]
    return OddRank(rank=one.rank, sentence=sentence, why=why or ["Why, these traces do not show."])


def _waited_for(
    one: RankFigures, usual: Sequence[int], figures: Sequence[RankFigures], stragglers: Sequence[Straggler]
) -> list[str]:
    waits = [figures[u].waited_ms for u in usual]
    if one.rank not in {straggler.rank for straggler in stragglers} or one.waited_ms is None:
        return []
    told = (
        f"The others wait for it inside collectives ({_range(waits, _ms)} a step; rank {one.rank} itself waits "
        f"{_ms(one.waited_ms)}): much of their communication is this wait, and it has none of it."
    )
    return [told]


def _host_late(index: int, usual: Sequence[int], figures: Sequence[RankFigures], hosts: Sequence[Host]) -> list[str]:
    late = [_late_share(figures[place], hosts[place]) for place in (index, *usual)]
    known = [share for share in late[1:] if share is not None]
    if late[0] is None or not known or outside(late[0], known, LEAST_SHARE) == 0 or late[0] < max(known):
        return []
    told = (
        f"Its device waits for its host: for {_percent(late[0])} of the time it is idle until a kernel comes that "
        f"starts as soon as it is launched ({_range(known, _percent)} elsewhere); nothing was queued."
    )
    return [told]


def _late_share(figures: RankFigures, host: Host) -> float | None:
    if host.late_ns is None or not figures.recorded_ms:
        return None
    return host.late_ns / 1e6 / figures.recorded_ms


def _host_slow(index: int, usual: Sequence[int], hosts: Sequence[Host]) -> list[str]:
    one, others = hosts[index], [hosts[u] for u in usual]
    paces = [other.step_ns for other in others if other.step_ns is not None]
    if one.step_ns is None or not paces or one.step_ns <= max(paces):
        return []
    said = f"Its host takes {_ms(one.step_ns / 1e6)} a step ({_range([p / 1e6 for p in paces], _ms)} elsewhere)"
    excess = longest_excess(one, others)
    if excess is not None:
        said += f", most of the excess in {excess[0]} ({_ms(excess[1] / 1e6)} against {_ms(excess[2] / 1e6)})"
    times = slower(one, others)
    if times is None or times < SLOWER:
        return [said + "."]
    counts = sorted([one.op_count, *(other.op_count for other in others)])
    work = "as many operations" if counts[-1] <= 1.1 * counts[0] else f"{one.op_count} operations"
    return [f"{said}: {work}, each {times:.2f} times as long. Its core is slower or busier; why, no trace tells."]


def _more_or_less_work(one: RankFigures, others: Sequence[RankFigures]) -> list[str]:
    counts = [other.kernels for other in others]
    if not counts or not one.kernels or 0.8 * min(counts) <= one.kernels <= 1.25 * max(counts):
        return []
    return [f"It ran {one.kernels} kernels, {min(counts)} to {max(counts)} elsewhere: it does other work."]


def _recording(one: RankFigures, figures: Sequence[RankFigures]) -> list[str]:
    late = one.late_start_ms
    if late is None or not one.recorded_ms or late < LEAST_LATE * one.recorded_ms:
        return []
    others = [other.late_start_ms for other in figures if other is not one and other.late_start_ms is not None]
    more = sum(1 for other in others if other >= 0.5 * late)
    also = f", as did that of {more} other rank{'s' if more > 1 else ''}, or nearly" if more else ""
    return [
        f"Its recording began {_ms(late)} after the earliest{also}: shares of the whole recording are of less time."
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if abs(value) >= 0.95 else f"{value:.2f} ms"


def _range(values: Sequence[float | None], form: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "not known"
    low, high = form(min(known)), form(max(known))
    number, _, unit = low.partition(" ")
    return low if low == high else f"{number} to {high}" if high.endswith(unit) else f"{low} to {high}"
