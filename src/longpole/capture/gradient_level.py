"""Steps of level 3: which op makes which gradient, what is kept for backward, which layer waits for which."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from longpole.capture import internals
from longpole.capture.compiled_memory import SavedMode
from longpole.capture.gradients import GradientMode, can_enter
from longpole.capture.hooks import has_compiled_code
from longpole.capture.pieces import gradient_piece
from longpole.capture.serial_chain import GraphWatch

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable

    from longpole.capture.hooks import PhaseHooks
    from longpole.capture.loop import LoopFinder
    from longpole.capture.memory_keeper import MemoryKeeper
    from longpole.capture.modules import LayerTable, ModuleMarks
    from longpole.trace.build import TraceBuilder

COMPILED = (
    "The script uses torch.compile: compiled regions are shown as such, "
    "and input and weight gradients inside them are not told apart."
)
TRANSFORM = "A step ends inside a transform of torch.func: input and weight gradients were not told apart."
OTHER_MODE = "A dispatch mode of the script is active: input and weight gradients were not told apart."


class GradientLevel:
    """`enter` before such a step; after it `leave`, or `stop` where nothing of it is wanted."""

    def __init__(
        self, hooks: PhaseHooks, modules: ModuleMarks, loop: LoopFinder, memory: MemoryKeeper, builder: TraceBuilder
    ) -> None:
        self._hooks = hooks
        self._modules = modules
        self._loop = loop
        self._memory = memory
        self._builder = builder
        self._mode: GradientMode | SavedMode | None = None
        self._graph: GraphWatch | None = None
        self._thread = 0

    @property
    def running(self) -> bool:
        return self._mode is not None

    def enter(self, warn: Callable[[str], None]) -> bool:
        """False, with a warning, where the step cannot be watched."""
        self._thread = threading.get_ident()
        if not internals.saved_hooks_allowed():
            warn(TRANSFORM)
            return False
        if has_compiled_code():
            warn(COMPILED)
            return can_enter() and self._enter_compiled()
        if not can_enter():
            warn(OTHER_MODE)
            return False
        weights = self._modules.weights()
        self._modules.mark_layers()
        memory = self._memory.watch(self._modules, weights)
        self._mode = GradientMode(self._modules, weights, self._loop.codes(), memory).__enter__()
        self._graph = GraphWatch(self._modules)
        self._hooks.before_backward = self._graph.before_backward
        return True

    def _enter_compiled(self) -> bool:
        """What is kept for backward, and nothing that a dispatch mode would tell."""
        memory = self._memory.watch(self._modules, self._modules.weights(), saved_only=True)
        if memory is None:
            return False
        self._modules.mark_layers()
        self._mode = SavedMode(memory).__enter__()
        return True

    def stepped(self) -> None:
        if self._graph is not None:
            self._graph.stepped()

    def stop(self) -> GradientMode | SavedMode | None:
        """Takes the mode out, and returns it. A graph that was watched is let go of: it holds the script's tensors."""
        mode, self._mode, self._graph = self._mode, None, None
        self._hooks.before_backward = None
        # A mode belongs to a thread; where that one is gone, so is the mode.
        if mode is not None and threading.get_ident() == self._thread:
            mode.__exit__(None, None, None)
        return mode

    def leave(
        self, layers: LayerTable, marks: array[int], step: int, first_sequence: int, warn: Callable[[str], None]
    ) -> None:
        """What the step gave becomes a piece. Calls of modules must not be taken before."""
        watch, mode = self._graph, self.stop()
        self._modules.stop()
        if mode is None:
            return
        if mode.failure:
            warn(f"Gradients were told apart in part only ({mode.failure}).")
        self._loop.note_graph(mode.graph_lines, mode.loss_lines, mode.update_lines)
        layers.find(self._modules.roots.values())
        self._builder.layers = layers.layers
        self._memory.keep(mode.memory, layers, marks, step)
        if watch is not None:
            self._builder.graph = watch.graph(layers) or self._builder.graph
        self._builder.add(gradient_piece(mode.rows, first_sequence, self._builder))
