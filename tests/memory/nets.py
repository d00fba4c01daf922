"""One training step of a network, watched, without a script: what the tests of memory look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.capture.gradients import GradientMode
from longpole.capture.marks import MarkLog
from longpole.capture.memory import MemoryWatch
from longpole.capture.modules import LayerTable, ModuleMarks
from longpole.trace.memory import SavedKind, StepMemory, owned_rows, saved_by_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import nn


class Watched:
    """A step that was watched: the record, and the rows of the network's layers."""

    def __init__(self, memory: StepMemory, layers: LayerTable, mode: GradientMode) -> None:
        self.memory = memory
        self.paths = [layer.path for layer in layers.layers]
        self.failure = mode.failure

    @property
    def saved(self) -> Mapping[str, int]:
        """Bytes by layer; what is saved outside of every layer goes by `outside`."""
        found = saved_by_layer(self.memory)
        return {(self.paths[row] if row >= 0 else "outside"): size for row, size in found.items() if size}

    @property
    def kinds(self) -> Mapping[str, int]:
        """Bytes by kind, each storage once."""
        found: dict[str, int] = {}
        for row, size in owned_rows(self.memory.saved).items():
            name = SavedKind(self.memory.saved.kind[row]).name
            found[name] = found.get(name, 0) + size
        return found

    @property
    def total(self) -> int:
        return sum(owned_rows(self.memory.saved).values())


def watch(model: nn.Module, turn: Callable[[], object]) -> Watched:
    """`turn` does one whole step of training `model`, its optimizer's included."""
    log = MarkLog()
    modules, layers = ModuleMarks(log), LayerTable()
    modules.roots[id(model)] = model
    modules.mark_layers()
    memory = MemoryWatch(modules, model.parameters())
    try:
        with GradientMode(modules, model.parameters(), set(), memory) as mode:
            turn()
        modules.stop()
        layers.find([model])
        record = memory.finish(layers.row_of, log.take(), 0)
    finally:
        modules.stop()
        memory.forget()
    return Watched(record, layers, mode)


def one_step(model: nn.Module, *inputs: torch.Tensor) -> Callable[[], None]:
    """Forward, sum, backward: the sum saves nothing."""

    def turn() -> None:
        model(*inputs).sum().backward()

    return turn
