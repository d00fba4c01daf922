"""Memory on a terminal: the figures, one step as a small picture with its phases, the peak, and what grows."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from longpole.analysis.memory_results import HOLDERS
from longpole.report.figures import byte_size, clean, known, ms
from longpole.report.lines import wrapped

if TYPE_CHECKING:
    from longpole.analysis.study import Memory, MemoryTimeline, Study
    from longpole.report.lines import Line

MOST_MOMENTS = 10_000
HEIGHT = 5  # rows of the picture
RISING = " ▁▂▃▄▅▆▇█"
WIDEST = 72  # cells of the picture
MOST_NAMED = 4  # holders and sorts in a sentence
MOST_GROWTH = 5


def memory(study: Study, items: list[str], width: int, *, blocks: bool) -> list[Line]:
    """All that the terminal says of memory; nothing where nothing is known."""
    found = study.memory
    lines = wrapped("memory: " + " · ".join(items), width, 4, first=2) if items else []
    lines += wrapped(peak_sentence(found), width, 4, first=4) if found.peak_at is not None else []
    if found.timeline is not None and is_whole(found.timeline):
        lines += picture(found.timeline, min(WIDEST, width - 16), blocks=blocks)
    lines += wrapped(resident_sentence(found), width, 4, "dim") if found.resident_parts else []
    for growth in found.growth[:MOST_GROWTH]:
        lines += wrapped(f"! {growth.sentence}", width, 6, "bold", first=4)
    for note in found.notes[:MOST_GROWTH]:
        lines += wrapped(note, width, 4, "dim")
    lines += wrapped(cost_sentence(found), width, 4, "dim") if known(found.measuring_ms) else []
    return lines


def peak_sentence(found: Memory) -> str:
    """When memory is highest and who holds it then."""
    at = found.peak_at
    if at is None:
        return ""
    kinds: dict[str, int] = {}
    for holder in found.holders:
        kinds[holder.kind] = kinds.get(holder.kind, 0) + holder.bytes
    held = sorted(kinds.items(), key=lambda kind: -kind[1])
    named = " · ".join(f"{kind} {byte_size(size)}" for kind, size in held[:MOST_NAMED])
    rest = sum(size for _, size in held[MOST_NAMED:])
    layer = f" of {clean(at.layer)}" if at.layer else ""
    last = f" in {clean(at.op, 60)}{layer}" if at.op else ""
    more = f" · the rest {byte_size(rest)}" if rest else ""
    when = f" at {ms(at.ms)}" if known(at.ms) else ""
    return f"peak {byte_size(found.peak_bytes)}{when} of step {at.step}, phase {at.phase},{last}: {named}{more}"


def resident_sentence(found: Memory) -> str:
    """What the process holds beside tensors; the parts sum to it."""
    parts = " · ".join(f"{part.part} {byte_size(part.bytes)}" for part in found.resident_parts)
    return f"in RAM at the peak {byte_size(found.resident_bytes)}: {parts}"


def cost_sentence(found: Memory) -> str:
    steps = f"{found.measured_steps} step{'s' if found.measured_steps != 1 else ''}"
    return f"looking at memory took {ms(found.measuring_ms)} in all, on {steps} profiled anyway: none is added"


def picture(timeline: MemoryTimeline, width: int, *, blocks: bool) -> list[Line]:
    """Bytes over one step as a hill, the peak marked beneath it, and the phases in a row."""
    known_names = [name for name in HOLDERS if name in timeline.bytes]
    totals = [sum(values) for values in zip(*(timeline.bytes[name] for name in known_names), strict=True)]
    if not totals or width < 10 or max(totals) <= 0:
        return []
    cells, phases = columns(timeline, totals, width)
    top = max(totals)
    peak = cells.index(max(cells))
    lines: list[Line] = []
    for row in range(HEIGHT, 0, -1):
        label = byte_size(top) if row == HEIGHT else ("0 B" if row == 1 else "")
        text = "".join(_cell(size / top * HEIGHT - (row - 1), blocks=blocks) for size in cells)
        lines.append([(f"    {label:>9} ", "dim"), (text.rstrip(), "blue")])
    lines.append([(" " * (14 + peak), ""), ("▲ peak" if blocks else "^ peak", "bold")])
    lines.append([(" " * 14, ""), (_phase_row(phases), "dim")])
    return lines


def is_whole(timeline: MemoryTimeline) -> bool:
    """Whether its columns fit together and make sense: a study may come from anywhere."""
    columns = [timeline.bytes[name] for name in HOLDERS if name in timeline.bytes]
    count = len(timeline.ms)
    if not columns or not all(len(column) == count for column in (timeline.phase, *columns)):
        return False
    rising = all(0 <= one <= other < math.inf for one, other in itertools.pairwise([0.0, *timeline.ms]))
    return 0 < count <= MOST_MOMENTS and rising and all(min(column) >= 0 for column in columns)


def columns(timeline: MemoryTimeline, totals: list[int], width: int) -> tuple[list[int], list[str]]:
    """For each cell the most held in its time, and the phase that begins it."""
    end = max(timeline.ms[-1], 1e-9)
    cells: list[int] = [-1] * width
    phases = [""] * width
    for at, size, phase in zip(timeline.ms, totals, timeline.phase, strict=True):
        place = min(int(at / end * width), width - 1)
        cells[place] = max(cells[place], size)
        phases[place] = phases[place] or phase
    for place in range(width):  # nothing changed in that time: what was there before is still there
        before = (cells[place - 1], phases[place - 1]) if place else (totals[0], timeline.phase[0])
        if cells[place] < 0:
            cells[place], phases[place] = before
    return cells, phases


def _cell(filled: float, *, blocks: bool) -> str:
    if not blocks:
        return "#" if filled >= 0.5 else " "
    return RISING[round(min(max(filled, 0.0), 1.0) * 8)]


def _phase_row(phases: list[str]) -> str:
    """Names of phases beneath their cells, cut to what room they have."""
    out = ""
    start = 0
    for at in range(1, len(phases) + 1):
        if at == len(phases) or phases[at] != phases[start]:
            room = at - start
            name = clean(phases[start], 40)
            out += ("|" + name[: room - 1]).ljust(room) if room > 1 else "|"
            start = at
    return out.rstrip()
