"""Lines of the terminal report about devices: ranks, gaps, how ranks compare, collectives, the critical path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.report import summary
from longpole.report.figures import byte_size, clean, count, known, ms, number, percent
from longpole.report.lines import Column, Line, table, wrapped

if TYPE_CHECKING:
    from longpole.analysis.device_results import CommunicationTime
    from longpole.analysis.study import Rank, Study

RANK_HEADINGS = ("busy", "idle", "compute", "comm", "exposed", "copies")
COMMUNICATION_HEADINGS = ("calls", "device", "exposed", "bytes", "bus")


def ranks(study: Study, width: int, top: int) -> list[Line]:
    """Each rank's device time as shares of its span; `top` of them, the least busy and the busiest."""
    if not study.ranks:
        return []
    chosen = summary.chosen_ranks(study.ranks, max(top, 1))
    columns = [
        Column("rank"),
        Column("device", figures=False, stretch=True),
        Column("span"),
        *map(Column, RANK_HEADINGS),
    ]
    lines = table(columns, [_rank_cells(rank) for rank in chosen], width)
    if len(chosen) < len(study.ranks):
        said = f"{len(chosen)} of {len(study.ranks)} ranks: the least busy and the busiest; --ranks shows all."
        lines += wrapped(said, width, 2, "dim")
    for note in sorted({rank.note for rank in chosen if rank.note})[:4]:
        lines += wrapped(note, width, 4, "dim", first=2)
    return lines


def _rank_cells(rank: Rank) -> list[str]:
    name = "–" if rank.rank is None else str(rank.rank)
    t = rank.timeline
    if t is None:
        return [name, clean(rank.device or ""), "–", *["–"] * len(RANK_HEADINGS)]
    parts = (t.busy, t.idle, t.compute, t.communication, t.exposed_communication, t.memory_copy)
    return [name, clean(rank.device or ""), ms(t.span_ms), *(percent(part.share) for part in parts)]


def gaps(study: Study, width: int) -> list[Line]:
    """Why devices were idle, by cause."""
    found = summary.gaps_by_cause(study.ranks)
    if not found:
        return []
    rows = [[clean(cause), ms(time), percent(share), number(n, 0), clean(why)] for cause, time, share, n, why in found]
    columns = [Column("idle because of", figures=False), Column("time"), Column("share"), Column("gaps")]
    heading = "mean of the ranks" if len(study.ranks) > 1 else ""
    return table([*columns, Column(heading, figures=False, stretch=True)], rows, width)


def compared(study: Study, width: int) -> list[Line]:
    """How the ranks compare, in sentences."""
    return [line for said in summary.rank_sentences(study) for line in wrapped(f"- {said}", width, 4, first=2)]


def communication(study: Study, width: int, top: int) -> list[Line]:
    """Collectives over the whole trace, those that compute covers least first."""
    rows = sorted(study.communication, key=lambda row: -row.exposed_ms if known(row.exposed_ms) else 0.0)
    if not rows:
        return []
    columns = [Column("rank"), Column("collective", figures=False, stretch=True), *map(Column, COMMUNICATION_HEADINGS)]
    shown = [_communication_cells(row) for row in rows[: max(top, 1)]]
    more = len(rows) - len(shown)
    return table(columns, shown, width) + ([[(f"  + {more} more", "dim")]] if more > 0 else [])


def _communication_cells(row: CommunicationTime) -> list[str]:
    what = " ".join(part for part in (row.operation or "not known", row.group or "") if part)
    speed = f"{count(row.bus_bytes_per_s)}B/s" if known(row.bus_bytes_per_s) else ""
    rank = "" if row.rank is None else str(row.rank)
    size = byte_size(row.bytes) if row.bytes is not None else ""
    return [rank, clean(what), number(row.count, 0), ms(row.device_ms), ms(row.exposed_ms), size, speed]


def critical_path(study: Study, width: int) -> list[Line]:
    """The chain that decided how long the window took, and what it is made of."""
    path = study.critical_path
    if path is None:
        return []
    lines = wrapped(f"Critical path: {path.sentence}", width, 4, first=2)
    for name, parts in (("", path.parts), ("by kind of work: ", path.op_classes[:6]), ("by phase: ", path.phases[:6])):
        text = " · ".join(f"{clean(part.what)} {percent(part.share)}" for part in parts)
        lines += wrapped(name + text, width, 6, "dim", first=4) if text else []
    for note in path.notes:
        lines += wrapped(note, width, 6, "dim", first=4)
    return lines
