"""What is said of a critical path: one sentence, and the doubts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.analysis.critical_parts import WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.critical_walk import Path
    from longpole.analysis.device_results import PathPart

LEAST_TOLD = 0.005  # of the path
SAID: Sequence[tuple[str, str]] = (
    ("device", "is device work"),
    ("host", "is the host"),
    ("launch", "launches on their way"),
    ("gap", "gaps between device work"),
    ("synchronization", "waits that had ended but not returned"),
)


def sentence_of(parts: Sequence[PathPart], op_classes: Sequence[PathPart]) -> str:
    """What the path is mostly, and the largest sort of work on it."""
    if not parts:
        return "The critical path is empty."
    shares = {part.what: part for part in parts}
    told = [
        f"{_share(shares[word])} {told}" for word, told in SAID if word in shares and shares[word].share >= LEAST_TOLD
    ]
    work = next((one for one in op_classes if one.what not in WORDS.values()), None)
    if work is None or max(work.share, work.high or 0.0) < LEAST_TOLD:
        return f"Of the critical path, {', '.join(told)}."
    most = f"; the largest sort of work on it is {work.what.replace('_', ' ')}, {_share(work)}"
    return f"Of the critical path, {', '.join(told)}{most}."


def _share(part: PathPart) -> str:
    low, high = (f"{100 * (part.share if one is None else one):.0f}" for one in (part.low, part.high))
    return f"{low} %" if low == high else f"{low} to {high} %"


def notes_of(paths: Sequence[Path], window: tuple[int, int], why: Sequence[str]) -> list[str]:
    """What to know of a path: why there are bounds, and where it could not be followed to the start."""
    found: list[str] = []
    if why:
        found.append(
            "Bounds, not one path: " + "; ".join(why) + ". Each part is given without and with the waits that are "
            "possible; figures in milliseconds are with them."
        )
    short = (window[1] - window[0] - paths[0].length_ns) / 1e6
    if short >= 0.001:
        found.append(
            f"The path could be followed back to {short:.3f} ms after the window's start: what comes before it was "
            "launched before the recording began."
        )
    return found
