"""Measures a training while it runs: at each turn of the loop, closes a step and prepares the next.

Whatever fails here ends the measuring, never the training: `_guarded` takes everything out and the reason
is told at the end.
"""

from __future__ import annotations

import os
import threading
import weakref
from array import array
from typing import TYPE_CHECKING

import msgspec

from longpole.capture.facts import facts_of, held_bytes, optimizer_facts
from longpole.capture.gradient_level import GradientLevel
from longpole.capture.hooks import PhaseHooks
from longpole.capture.internals import sequence_number
from longpole.capture.kineto import KinetoBlock, event_cost_ns
from longpole.capture.loop import LoopFinder
from longpole.capture.marks import MARK_WIDTH, MarkLog, mark_cost_ns
from longpole.capture.memory_keeper import MemoryKeeper
from longpole.capture.modules import LayerTable, ModuleMarks
from longpole.capture.pieces import call_piece, mark_piece, sample_piece
from longpole.capture.plan import Plan, WindowOptions
from longpole.capture.sampler import Sampler
from longpole.capture.saved_hooks import hook_stack
from longpole.capture.turns import TurnFinder
from longpole.trace.build import TraceBuilder
from longpole.trace.kinds import Level, Phase
from longpole.trace.trace import Lane, StepWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim.optimizer import Optimizer

    from longpole.trace.store import TraceWriter

BACKWARDS_WITHOUT_OPTIMIZER = 20  # then the update is the script's own code, and backward is the rhythm
SETTLE_EVERY = 256  # steps
OTHER_PROFILER = "The script has a profiler of its own: while it is active, ops and layers are not measured."
MOST_DEEP_MARKS = 100 * MARK_WIDTH
MARKS_OVER_USUAL = 8
LAYERED = (Level.OPS, Level.GRADIENTS)


class StopScriptError(SystemExit):
    """Raised in the user's loop when the window is measured and `--stop` was given: a clean exit."""


class Recorder:
    """One measured window. `start` when torch is there, `finish` always; `on_over` is called in between."""

    def __init__(self, options: WindowOptions, writer: TraceWriter | None = None) -> None:
        self.options = options
        self.builder = TraceBuilder()
        self.plan = Plan(options)
        self.stopped = "script end"
        self.failure: str | None = None
        self.trace_failure: str | None = None  # why the trace file is not whole
        self.manual = False  # steps are told by the user, not found
        self.on_over: Callable[[], None] = lambda: None
        self._writer = writer
        self._log = MarkLog()
        self._hooks = PhaseHooks(self._log, self._stepped, self._went_back)
        self._modules = ModuleMarks(self._log)
        self._layers = LayerTable()
        self._turns = TurnFinder()
        self._loop = LoopFinder()
        self._kineto = KinetoBlock()
        self._sampler: Sampler | None = None
        self._memory = MemoryKeeper(self.builder)
        self._gradients = GradientLevel(self._hooks, self._modules, self._loop, self._memory, self.builder)
        self._active = False
        self._finished = False
        self._level = Level.NONE
        self._index = 0
        self._start_ns = 0
        self._first_sequence = -1
        self._lane = -1
        self._optimizers: dict[int, str] = {}
        self._held: dict[str, str] = {}  # bytes of parameters, gradients and optimizer state
        self._backwards = 0
        self._most_marks = MOST_DEEP_MARKS  # numbers in the log of a deep step before it is given up
        self._steps: list[StepWindow] = []  # these wait for a moment between deeper steps, as do marks in the log
        self._calls = array("q")

    # -- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._active = True
        _forget_in_children(self)
        self._log.on_mark = self._loop.on_mark
        try:
            self._hooks.start()
            hook_stack.follow()
            self._kineto.watch()
            self._modules.discover()
        except BaseException:
            self._remove()
            raise
        self._start_ns = self._log.clock()

    def finish(self, stopped: str | None = None) -> None:
        """Takes everything out. Safe to call twice and after a failure."""
        if self._finished:
            return
        if stopped is not None and self._active:
            self.stopped = stopped
        if self._active:
            self._guarded(self._leave_level)
            self._remove()
        self._guarded(self._settle)
        self._tried(self._look_for_growth)
        self._guarded(self._describe)
        if self.failure:
            self._warn(f"Measuring stopped early: {self.failure}. The script went on.")
        if self._writer is not None:
            self._guarded(self._flush)
            self._writer.close()
        self._release()
        self._finished = True

    def _release(self) -> None:
        """A script may drop its network and make another, and have memory for one."""
        self._modules.roots.clear()
        self._layers.release()

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.flush(self.builder)
            if self._writer.failed:
                self.trace_failure = self._writer.failed

    def step(self) -> None:
        """The end of a turn of the loop, told by the user."""
        self.manual = True
        self._boundary(self._log.clock())

    def _remove(self) -> None:
        """Everything out. Each part by itself: one that fails must not keep the others in."""
        self._active = False
        self._log.close()
        parts = (self._stop_sampler, self._gradients.stop, self._kineto.drop, self._kineto.unwatch)
        for part in (*parts, self._modules.stop, hook_stack.leave, self._hooks.stop):
            self._tried(part)

    def _tried(self, part: Callable[[], object]) -> None:
        try:
            part()
        except Exception as error:
            self._failed(error)

    def _stop_sampler(self) -> None:
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.stop()

    def _failed(self, error: Exception) -> None:
        self.failure = self.failure or f"{type(error).__name__}: {error}".splitlines()[0]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except StopScriptError:
            raise
        except Exception as error:
            self._failed(error)
            self._remove()

    # -- turns --------------------------------------------------------------------------------------------

    def _stepped(self, optimizer: Optimizer, end_ns: int) -> None:
        if not self._active or self.manual:
            return
        if id(optimizer) not in self._optimizers:
            self._hooks.has_other_rhythm = True
            self._optimizers[id(optimizer)] = type(optimizer).__name__
            self._guarded(lambda: self._optimizers.update({id(optimizer): optimizer_facts(optimizer)}))
        self._gradients.stepped()
        if self._turns.stepped(id(optimizer)):
            self._boundary(end_ns)
        if self.plan.in_window and not self._held:
            self._guarded(lambda: self._held.update(held_bytes(optimizer)))

    def _went_back(self, end_ns: int) -> None:
        if self._optimizers or self.manual or not self._active:
            return
        self._backwards += 1
        if self._backwards > BACKWARDS_WITHOUT_OPTIMIZER:
            self._boundary(end_ns)

    def _boundary(self, end_ns: int) -> None:
        """Like `_guarded`, written out: this is hot."""
        if not self._active:
            return
        try:
            self._turn(end_ns)
        except StopScriptError:
            raise
        except Exception as error:
            self._failed(error)
            self._remove()

    def _turn(self, end_ns: int) -> None:
        if self._log.thread is None:
            self._own_thread()
        level = self.plan.after(end_ns - self._start_ns, len(self._sampler.samples) if self._sampler else 0)
        if level == self._level == Level.PHASES and len(self._steps) < SETTLE_EVERY:
            self._close_step(end_ns)
        else:
            self._change(level, end_ns)
        self._first_sequence = sequence_number()
        self._start_ns = self._log.clock()

    def _change(self, level: Level, end_ns: int) -> None:
        goes_on = level == self._level and self._is_block()
        if not goes_on:
            self._leave_level()
        self._close_step(end_ns)
        if level != self._level or len(self._steps) >= SETTLE_EVERY:
            self._settle()
        if self.plan.over:
            self._end_window()
        elif not goes_on:
            self._enter_level(level)

    def _end_window(self) -> None:
        self.stopped = "window"
        self._tried(self._look_for_growth)
        self._remove()
        self.on_over()
        if self.options.stop:
            raise StopScriptError(0)

    def _look_for_growth(self) -> None:
        """Best while the loop's frames are there: they know the names of what they keep."""
        self._memory.end([*self.builder.steps, *self._steps])

    def _is_block(self) -> bool:
        """A block of steps runs in one piece: a sampler that is started anew falls into step with the loop."""
        if self._level == Level.SITES:
            return self._sampler is not None
        return self._level == Level.OPS and self._kineto.running

    def _own_thread(self) -> None:
        self._log.thread = threading.get_ident()
        self._lane = self.builder.lane(Lane("training thread", "host", os.getpid(), threading.get_native_id()))

    def _close_step(self, end_ns: int) -> None:
        """Keeps what was marked as it is: between two level-0 steps there is time for nothing else."""
        if self._log.on_mark is not None:
            self._loop.end_step()
        self._steps.append(StepWindow(self._index, self._start_ns, end_ns, self._level, self._first_sequence))
        if self._level == Level.PHASES:
            self._most_marks = max(self._most_marks, MARKS_OVER_USUAL * self._log.length_of_step())
        elif self._level in LAYERED:
            self._calls += self._modules.take_calls()
        # Of a step that is not measured the marks still say whether an evaluation was in it; not so while warming up.
        self._log.end_step(keep=self._level != Level.NONE or self._log.on_mark is None)
        self._index += 1

    def _settle(self) -> None:
        """Turns kept marks into rows, and writes them."""
        self._layers.find(self._modules.roots.values())
        self.builder.layers = self._layers.layers
        steps, marks, calls = self._steps, self._log.take(), self._calls
        self._steps, self._calls = [], array("q")
        self.builder.add(mark_piece(marks, self.builder, self._lane, self._modules))
        self.builder.add(call_piece(calls, self.builder, self._lane, self._layers))
        self.builder.steps.extend(steps)
        self._flush()

    # -- levels -------------------------------------------------------------------------------------------

    def _enter_level(self, level: Level) -> None:
        if self.plan.in_window:
            self._log.on_mark = None
        if (level == Level.OPS and not self._enter_ops()) or (level == Level.GRADIENTS and not self._enter_gradients()):
            level = Level.NONE
        if level in LAYERED:
            self._log.on_mark = self._watch_length
        elif level == Level.SITES and self._sampler is None:
            self._sampler = Sampler(threading.get_ident(), self._loop.levels)
            self._sampler.start()
        elif level in (Level.PHASES, Level.NONE) and self.plan.in_window:
            self._modules.mark_roots()
        self._level = level

    def _leave_level(self) -> None:
        """Before the step is closed: what a deeper level gathered becomes a piece."""
        if self._sampler is not None:
            sampler = self._sampler
            self._stop_sampler()
            self.builder.add(sample_piece(sampler.samples, self._loop, self.builder))
        if self._gradients.running:
            marks = self._log.of_this_step()
            self._gradients.leave(self._layers, marks, self._index, self._first_sequence, self._warn_once)
        if self._kineto.running:
            self._read_ops()
            self.plan.ops_recorded = True
        elif self._level == Level.OPS:  # dropped in mid-step
            self._warn_once(OTHER_PROFILER)
            self._modules.take_calls()
            self._level = Level.NONE

    def _read_ops(self) -> None:
        results = self._kineto.stop()
        self._modules.stop()
        self.builder.add(self._kineto.read(results, self.builder, self._lane))
        self._memory.allocated(self._kineto.allocations, self._index, self._start_ns)

    def _watch_length(self, _phase: Phase) -> None:
        """A whole evaluation may fall into a deep step; to record each of its ops would fill the memory."""
        if self._log.length_of_step() > self._most_marks:
            self._log.on_mark = None
            self._guarded(self._give_up_level)

    def _give_up_level(self) -> None:
        """What the steps before gave is kept."""
        self._gradients.stop()
        if self._kineto.running:
            self.plan.ops_recorded = any(step.level == Level.OPS for step in self._steps)
            self._read_ops()
        self._modules.mark_roots()
        self._modules.take_calls()
        self._level = Level.NONE

    def _enter_ops(self) -> bool:
        if not self._kineto.start():
            self._warn_once(OTHER_PROFILER)
            return False
        self._modules.mark_layers()
        return True

    def _enter_gradients(self) -> bool:
        if self._kineto.is_taken():  # our dispatch mode would show in its records
            self._warn_once(OTHER_PROFILER)
            return False
        return self._gradients.enter(self._warn_once)

    # -- notes --------------------------------------------------------------------------------------------

    def _describe(self) -> None:
        self.builder.info = facts_of(self.builder.info, self._modules, self.stopped)
        if self._optimizers:
            self._note({"optimizer": "; ".join(self._optimizers.values()), **self._held})
        self._note({f"line of {phase}": where for phase, where in self._loop.mark_lines().items()})
        self._note({"mark_ns": f"{mark_cost_ns():.0f}"})
        if any(step.level == Level.OPS for step in self.builder.steps):
            cost_ns = event_cost_ns(self._kineto)
            self._note({"event_ns": f"{cost_ns:.0f}"} if cost_ns is not None else {})

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self.builder.info.warnings:
            self._warn(sentence)

    def _warn(self, sentence: str) -> None:
        info = self.builder.info
        self.builder.info = msgspec.structs.replace(info, warnings=(*info.warnings, sentence))

    def _note(self, facts: dict[str, str]) -> None:
        info = self.builder.info
        self.builder.info = msgspec.structs.replace(info, facts={**info.facts, **facts})

    def forget(self) -> None:
        """In a forked child: nothing is measured there, and nothing of ours stays in the way."""
        if self._active:
            if self._sampler is not None:
                self._sampler.restore()
            self._sampler = None
            self._gradients.stop()
            self._active = False
            self._finished = True
            self._log.close()
            self._modules.stop()
            self._kineto.unwatch()
            hook_stack.leave()
            self._hooks.stop()
            self._writer = None


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()
_registered: list[bool] = []


def _forget_in_children(recorder: Recorder) -> None:
    """Fork handlers cannot be taken back, so there is one for all recorders, and it holds none of them."""
    _recorders.add(recorder)
    if not _registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: [found.forget() for found in list(_recorders)])
        _registered.append(True)
