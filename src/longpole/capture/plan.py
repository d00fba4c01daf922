"""Which step is measured at which level. Pure logic with the clock as an argument.

Deeper steps come in blocks between level-0 steps, so that drift cancels. The step after a deeper block is
not measured: it runs with cold caches, and DataLoader workers have had time to fill their queues.

Ops are recorded in one block only. torch's profiler writes to freed memory where a range (a `record_function`
of the script's, or `Optimizer.step#`) is opened in one recording and closed in a later one: of what a range
keeps a pointer to, the first recording's end disposes (torch 2.13, profiler_kineto.cpp, onFunctionExit).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longpole.trace.kinds import Level

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEP = (Level.SITES, Level.OPS, Level.GRADIENTS)
# A first look at everything comes early: a script may end soon, a budget may be short.
OPENING = (
    *(Level.PHASES,) * 2,
    Level.OPS,
    Level.NONE,
    *(Level.PHASES,) * 2,
    Level.GRADIENTS,
    Level.NONE,
    *(Level.PHASES,) * 2,
    Level.SITES,
    Level.NONE,
)
# Runs of level-0 steps between deeper ones. Uneven, so that what a script does every so many steps (an evaluation
# every fifth or tenth) falls on level-0 steps as often as it happens: with even runs it can miss all of them.
RUNS = (4, 7, 3, 6, 11, 5, 8, 2, 9, 13)
GRADIENT_ROUNDS = 3  # gradient steps after the opening's, at most
LEAST_WARMUP = 2
ENOUGH_SAMPLES = 120  # of the sampling thread in a block of steps
LEAST_SAMPLED = 3  # steps in such a block: one long step has samples enough, and few of them in its short gaps
MOST_SAMPLED = 16  # steps in such a block
SAMPLED_SHARE = 0.05  # of the budget, for such a block
MOST_RECORDED = 8  # steps in the block whose ops are recorded
RECORDED_SHARE = 0.1  # of the budget, for that block
WARMUP_SHARE = 0.15  # of the budget: slow steps get fewer warm-up steps


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """The measured window. `steps` counts level-0 steps; deeper steps come on top."""

    steps: int = 20
    warmup: int = 5
    budget_s: float = 120.0
    deepest: Level = Level.GRADIENTS
    stop: bool = False  # end the script when the window is measured


class Plan:
    """Hands out the level of each step; `over` once the window is measured."""

    def __init__(self, options: WindowOptions) -> None:
        self.options = options
        self.warmed_up = 0
        self.measured = 0
        self.over = False
        self.in_window = False
        self._level = Level.NONE
        self._opening_left = len(OPENING)
        self._spent_ns = 0
        self._block_ns = 0
        self._block_steps = 0
        self.ops_recorded = False  # told by the recorder: steps with their ops are there
        self._levels = self._sequence()

    def after(self, duration_ns: int, samples: int = 0) -> Level:
        """The level of the next step, given how long the step that just ended took.

        `samples` is how often the sampling thread has looked in this block of steps.
        """
        if self.warmed_up:  # the first turn began when torch came in: all the script's preparations are in it
            self._spent_ns += duration_ns
        if not self.in_window:
            self.warmed_up += 1
            self.in_window = self._is_warm()
            if not self.in_window:
                return Level.NONE
        if self._wants_more(duration_ns, samples):
            return self._level
        self._block_ns = self._block_steps = 0
        self.measured += self._level == Level.PHASES
        self.over = self._is_over()
        self._level = Level.NONE if self.over else next(self._levels)
        return self._level

    def _wants_more(self, duration_ns: int, samples: int) -> bool:
        """Whether a block of steps goes on. Short steps are sampled for longer: one look in three says nothing."""
        self._block_ns += duration_ns
        self._block_steps += 1
        spent = self._block_ns / (self.options.budget_s * 1e9)
        if self._level == Level.SITES:
            enough = samples >= ENOUGH_SAMPLES and self._block_steps >= LEAST_SAMPLED
            return spent <= SAMPLED_SHARE and not enough and self._block_steps < MOST_SAMPLED
        return self._level == Level.OPS and spent <= RECORDED_SHARE and self._block_steps < MOST_RECORDED

    def _sequence(self) -> Iterator[Level]:
        for level in OPENING:
            self._opening_left -= 1
            yield from self._allowed(level)
        for turn, run in enumerate(itertools.cycle(RUNS)):
            for _ in range(run):
                yield Level.PHASES
            yield from self._deeper(turn)

    def _deeper(self, turn: int) -> Iterator[Level]:
        """What comes between two runs: places by turns with ops (where the opening's gave nothing) and gradients."""
        levels = (Level.SITES, Level.GRADIENTS) if turn % 2 else (Level.OPS, Level.SITES)
        for level in levels:
            is_wanted = level != Level.GRADIENTS or turn < 2 * GRADIENT_ROUNDS
            found = [*self._allowed(level)] if is_wanted else []
            yield from found
            yield from [Level.NONE] * len(found)  # a step after a deeper one is none to measure by

    def _allowed(self, level: Level) -> Iterator[Level]:
        is_again = level == Level.OPS and self.ops_recorded
        if not is_again and (level not in DEEP or level <= self.options.deepest):
            yield level

    def _is_warm(self) -> bool:
        if self.warmed_up > self.options.warmup:
            return True
        slow = self._spent_ns > WARMUP_SHARE * self.options.budget_s * 1e9
        return slow and self.warmed_up > min(LEAST_WARMUP, self.options.warmup)

    def _is_over(self) -> bool:
        """The opening is worth up to twice the budget: without it there is half an answer."""
        spent = self._spent_ns / (self.options.budget_s * 1e9)
        if self._opening_left:
            return spent > 2
        return spent > 1 or self.measured >= self.options.steps
