"""What a recorder does about memory over a run: which steps are watched, what is kept of them, growth at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from longpole.capture.allocations import of_step
from longpole.capture.growth import Followed, find_growth
from longpole.capture.memory import MemoryWatch
from longpole.trace.clock import monotonic_ns
from longpole.trace.memory import MemoryRecord, saved_by_layer

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Sequence

    import torch

    from longpole.capture.modules import LayerTable, ModuleMarks
    from longpole.trace.build import TraceBuilder
    from longpole.trace.trace import StepWindow

MOST_WATCHED = 2  # steps: one for the picture, a second one to tell growth from a cache that fills once


class MemoryKeeper:
    """`watch` before a gradient step, `keep` after it, `end` when the window is over."""

    def __init__(self, builder: TraceBuilder) -> None:
        self._builder = builder
        self._followed: list[Followed] = []
        self._is_over = False

    def watch(
        self, modules: ModuleMarks, weights: Iterable[torch.Tensor], *, saved_only: bool = False
    ) -> MemoryWatch | None:
        if len(self._followed) >= MOST_WATCHED or self._is_over:
            return None
        return MemoryWatch(modules, weights, saved_only=saved_only)

    def keep(self, watch: MemoryWatch | None, layers: LayerTable, marks: array[int], step: int) -> None:
        """Must come before the calls of modules are taken."""
        if watch is None:
            return
        found = watch.finish(layers.row_of, marks, step)
        record = self._builder.memory or MemoryRecord()
        self._builder.memory = replace(record, steps=[*record.steps, found])
        if not record.steps:
            self._builder.saved_bytes = saved_by_layer(found)
        rows = len(found.storages.bytes)
        self._followed.append(Followed(step, watch.lives, watch.first_row, rows, found.storages.layer))

    def allocated(self, sizes: Sequence[tuple[int, int]], step: int, start_ns: int) -> None:
        """The allocator's events of recorded operations, the last step of which began at `start_ns`."""
        found = of_step(sizes, step, start_ns)
        if found is not None:
            self._builder.memory = replace(self._builder.memory or MemoryRecord(), allocations=found)

    def end(self, steps: Sequence[StepWindow]) -> None:
        """Looks for growth over these steps, once, and lets go of everything."""
        record, self._is_over = self._builder.memory, self._is_over or bool(steps)
        if record is not None and steps and self._followed:
            start_ns = monotonic_ns()
            known = [step.first_sequence for step in steps]
            grown = find_growth(self._followed, known, steps[-1].index)
            self._builder.memory = replace(record, grown=grown, census_ns=monotonic_ns() - start_ns)
        self.forget()

    def forget(self) -> None:
        for followed in self._followed:
            followed.lives.forget()
        self._followed.clear()
