"""Finds the frames of the training loop: those that are on the stack at every mark of a step."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from longpole.capture.flow import phases_of_lines, statements_of
from longpole.capture.frames import describe, is_ours
from longpole.capture.interpreter import frame_at
from longpole.trace.kinds import Phase, label

if TYPE_CHECKING:
    from types import CodeType, FrameType


MOST_SEEN = 4096  # marks of one step; a script may evaluate for hours before it trains


class Place(NamedTuple):
    """A frame on the stack at a mark. The frame itself is not held: that would keep its locals alive."""

    identity: int
    code: CodeType
    line: int


@dataclass(slots=True)
class LoopLevel:
    """One frame of the loop, outermost first, and its lines by what is called there."""

    code: CodeType
    lines: dict[Phase, set[int]] = field(default_factory=dict[Phase, set[int]])
    graph_lines: set[int] = field(default_factory=set[int])  # made autograd nodes outside of any module
    loss_lines: set[int] = field(default_factory=set[int])
    update_lines: set[int] = field(default_factory=set[int])  # wrote into what is trained
    phases: dict[int, Phase] | None = None  # by dataflow, worked out when first asked


def is_torch(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return isinstance(name, str) and (name == "torch" or name.startswith("torch."))


def places(frame: FrameType | None) -> list[Place]:
    """The frames of this stack, outermost first, without longpole's own and torch's."""
    found: list[Place] = []
    while frame is not None:
        if not is_ours(frame) and not is_torch(frame):
            found.append(Place(id(frame), frame.f_code, frame.f_lineno or 0))
        frame = frame.f_back
    return found[::-1]


class LoopFinder:
    """Sees the stack at each mark of a few steps; `levels` is what the steps have in common."""

    def __init__(self) -> None:
        self.levels: list[LoopLevel] = []
        self._seen: deque[tuple[Phase, list[Place]]] = deque(maxlen=MOST_SEEN)

    def on_mark(self, phase: Phase) -> None:
        self._seen.append((phase, places(frame_at(1))))

    def end_step(self) -> None:
        """Frames common to every mark of the step that just ended, launcher frames among them."""
        seen = list(self._seen)
        self._seen.clear()
        if not {phase for phase, _ in seen} & {Phase.BACKWARD, Phase.OPTIMIZER}:
            return
        depth = _common_depth([stack for _, stack in seen])
        known = [level.code for level in self.levels]
        if known != [place.code for place in seen[0][1][:depth]]:
            self.levels = [LoopLevel(place.code) for place in seen[0][1][:depth]]
        for phase, stack in seen:
            for level, place in zip(self.levels, stack, strict=False):
                level.lines.setdefault(phase, set()).add(place.line)

    def codes(self) -> set[CodeType]:
        return {level.code for level in self.levels}

    def mark_lines(self) -> dict[str, str]:
        """Where in the innermost frame of the loop each phase was marked: `{"forward": "train.py:63"}`."""
        if not self.levels:
            return {}
        level = self.levels[-1]
        return {label(phase): describe(level.code, min(lines)) for phase, lines in level.lines.items()}

    def note_graph(
        self, graph: set[tuple[CodeType, int]], loss: set[tuple[CodeType, int]], update: set[tuple[CodeType, int]]
    ) -> None:
        """Lines of the loop that made autograd nodes, or wrote weights, from a step that saw every op."""
        for level in self.levels:
            level.graph_lines |= {line for code, line in graph if code is level.code}
            level.loss_lines |= {line for code, line in loss if code is level.code}
            level.update_lines |= {line for code, line in update if code is level.code}
            level.phases = None

    def phase_at(self, depth: int, line: int) -> Phase | None:
        """What this line of the loop is for, by its dataflow."""
        if depth < 0:
            return None
        level = self.levels[depth]
        if level.phases is None:
            statements = statements_of(level.code)
            level.phases = phases_of_lines(
                statements, level.lines, level.graph_lines, level.loss_lines, level.update_lines
            )
        return level.phases.get(line)


def _common_depth(stacks: list[list[Place]]) -> int:
    depth = 0
    for column in zip(*stacks, strict=False):
        if len({(place.identity, place.code) for place in column}) > 1:
            break
        depth += 1
    return depth
