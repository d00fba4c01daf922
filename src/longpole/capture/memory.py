"""Memory of one step, watched from inside the dispatch mode of a gradient step.

Every operation tells the storages that it made and read; weak references tell when they go; hooks tell what is saved
for backward. Times are taken on the clock of the marks, and what looking took is cut out of them at the end.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.capture import internals
from longpole.capture.census import Census
from longpole.capture.gradients import ACCUMULATE
from longpole.capture.marks import MARK_WIDTH
from longpole.capture.module_calls import boundary, layers_of_nodes
from longpole.capture.modules import CALL_WIDTH
from longpole.capture.resident import Reader, parts_of_process
from longpole.capture.saved import SavedLog
from longpole.capture.storages import StorageLives, tensors_in
from longpole.capture.watch_clock import WatchClock
from longpole.trace.clock import monotonic_ns
from longpole.trace.memory import (
    MOST_ROWS,
    Calls,
    Owner,
    Readings,
    Saved,
    SavedKind,
    StepMemory,
    Storages,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import torch

    from longpole.capture.modules import ModuleMarks

CUT = "More storages or saved tensors than are kept were seen: the memory of this step is not whole."
COMPILED = (
    "torch.compile: each compiled region is one block. What it keeps for backward is counted; what it makes and frees "
    "inside of itself is not seen, so who holds the peak is not known."
)
ATTRIBUTES = (
    "What a custom autograd.Function keeps as attributes of ctx is not told to anybody: such tensors count as "
    "temporaries, and save_for_backward would show them as saved."
)


class MemoryWatch:
    """One step under observation. `op` is called after each operation, `finish` once, at the end of the step."""

    def __init__(self, modules: ModuleMarks, weights: Iterable[torch.Tensor], *, saved_only: bool = False) -> None:
        self._saved_only = saved_only
        self._start_ns = monotonic_ns()
        self._modules = modules
        self._pauses = array("q")  # start, end of each stretch that was ours
        self._reads = array("q")  # time, row of each storage read in forward
        self._calls_op: list[str] = []  # of each operation: name, end, module round it, number of its node
        self._calls_ns: list[int] = []
        self._calls_module: list[int] = []
        self._calls_node: list[int] = []
        self._copies: set[int] = set()  # rows of weights in another type
        self._reader = Reader()
        self.lives = StorageLives(monotonic_ns, self._reader.device)
        self.saved = SavedLog(self.lives, monotonic_ns, self._module_of_now)
        self._weights = list(weights)
        self._found = Census()
        self._edge()
        self.first_row = len(self.lives.bytes)
        self.spent_ns = monotonic_ns() - self._start_ns
        self._start_ns = monotonic_ns()
        self._reader.read(self._start_ns)

    def _module_of_now(self) -> int:
        return self._modules.stack[-1] if self._modules.stack else 0

    def pause(self, start_ns: int) -> None:
        """What went on since `start_ns` was ours."""
        self._pauses.extend((start_ns, monotonic_ns()))

    def op(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, node: Any) -> None:
        """Takes note of what one operation read and made; `node` is the autograd node that ran it, None in forward."""
        now, stack = monotonic_ns(), self._modules.stack
        is_backward = node is not None and not stack
        reads = [self.lives.add(tensor, Owner.NOBODY) for tensor in tensors_in((*args, *kwargs.values()))]
        if not is_backward and node is None and stack:
            for row in reads:
                if row >= 0 and self.lives.owner[row] != Owner.PARAMETER:
                    self._reads.extend((now, row))
        results = list(tensors_in(result))
        rows = self._made(name, results, node)
        if name == "aten::_to_copy" and reads and reads[0] >= 0 and self.lives.owner[reads[0]] == Owner.PARAMETER:
            self._copies.update(rows)
        if node is not None and is_backward and node.name() == ACCUMULATE:
            for row in rows:
                if row >= 0 and self.lives.owner[row] == Owner.NOBODY:
                    self.lives.owner[row] = int(Owner.GRADIENT)
        self.saved.op_done(name, results, rows)
        self._called(name, now, node)
        self._reader.read(now)

    def _called(self, name: str, now: int, node: Any) -> None:
        stack = self._modules.stack
        if len(self._calls_op) >= MOST_ROWS:
            return
        self._calls_op.append(name)
        self._calls_ns.append(now)
        self._calls_module.append(stack[-1] if stack else 0)
        self._calls_node.append(internals.sequence_of(node) if node is not None and not stack else -1)

    def _made(self, name: str, results: Sequence[torch.Tensor], node: Any) -> list[int]:
        stack = self._modules.stack
        owner = Owner.RECOMPUTED if node is not None and stack else Owner.NOBODY
        sequence = internals.sequence_of(node) if node is not None and not stack else -1
        made_at = internals.sequence_number()
        return [self.lives.add(t, owner, name, stack[-1] if stack else 0, sequence, made_at) for t in results]

    def _edge(self) -> None:
        """Who owns what at this moment, and what else is there."""
        census = self._found
        census.look(self._weights)
        owned = (
            (Owner.PARAMETER, census.parameters),
            (Owner.GRADIENT, census.gradients),
            (Owner.OPTIMIZER, census.state),
        )
        for owner, tensors in owned:
            for tensor in tensors:
                row = self.lives.add(tensor, owner)
                if row >= 0:
                    self.lives.owner[row] = int(owner)
        for tensor in census.others:
            self.lives.add(tensor, Owner.OLDER)
        census.clear()

    def finish(self, row_of: Callable[[int], int], marks: array[int], step: int) -> StepMemory:
        """The record of the step that ends now. The hooks must be out. Storages stay watched until `forget`."""
        end_ns = monotonic_ns()
        self._reader.read(end_ns)
        rows = len(self.lives.bytes)
        self.saved.is_open = False
        self._edge_of_end(rows)
        clock = WatchClock(self._pauses, self._start_ns, end_ns)
        calls = np.array(self._modules.calls, dtype=np.int64).reshape(-1, CALL_WIDTH)
        layers = [row_of(module) for module in calls[:, 0].tolist()]
        return StepMemory(
            step=step,
            start_ns=self._start_ns,
            end_ns=end_ns,
            spent_ns=clock.spent_ns + self.spent_ns + monotonic_ns() - end_ns,
            length_ns=clock.times([end_ns])[0],
            storages=self._storages(rows, clock, calls, layers, row_of),
            saved=self._saved(clock, row_of),
            boundary=boundary(calls, layers, self._reads, self.lives.born_ns),
            readings=self._readings(clock),
            marks=_marks(marks, clock),
            resident=parts_of_process(),
            notes=self._notes(),
            measured_peak_bytes=self._reader.device_peak_bytes,
            calls=self._calls(clock, calls, layers, row_of),
            saved_only=self._saved_only,
        )

    def _edge_of_end(self, rows: int) -> None:
        """Gradients and state that were made in the step; what the census alone finds is none of the step's."""
        owner = self.lives.owner
        census = self._found
        census.look(self._weights)
        for kind, tensors in ((Owner.GRADIENT, census.gradients), (Owner.OPTIMIZER, census.state)):
            for tensor in tensors:
                row = self.lives.row(tensor)
                if 0 <= row < rows and owner[row] in (Owner.NOBODY, Owner.OLDER):
                    owner[row] = int(kind)
        census.clear()
        self._weights.clear()

    def _storages(
        self, rows: int, clock: WatchClock, calls: np.ndarray[Any, Any], layers: list[int], row_of: Callable[[int], int]
    ) -> Storages:
        lives = self.lives
        by_node = layers_of_nodes(calls, layers, lives.node[:rows])
        own = [row_of(module) if module else -1 for module in lives.module[:rows]]
        old = [row < self.first_row for row in range(rows)]
        born = clock.times(lives.born_ns[:rows])
        return Storages(
            bytes=lives.bytes[:rows],
            born_ns=[-1 if is_old else time for time, is_old in zip(born, old, strict=True)],
            died_ns=clock.times(lives.died_ns[:rows]),
            owner=lives.owner[:rows],
            layer=[by if node >= 0 else forward for by, node, forward in zip(by_node, lives.node, own, strict=False)],
            op=lives.op[:rows],
        )

    def _calls(
        self, clock: WatchClock, calls: np.ndarray[Any, Any], layers: list[int], row_of: Callable[[int], int]
    ) -> Calls:
        nodes = self._calls_node
        by_node = layers_of_nodes(calls, layers, nodes)
        own = [row_of(module) if module else -1 for module in self._calls_module]
        layer = [by if node >= 0 else forward for by, node, forward in zip(by_node, nodes, own, strict=True)]
        return Calls(self._calls_op, clock.times(self._calls_ns), layer)

    def _saved(self, clock: WatchClock, row_of: Callable[[int], int]) -> Saved:
        log, lives = self.saved, self.lives
        sizes = [
            lives.bytes[storage] if storage >= self.first_row else size
            for storage, size in zip(log.storage, log.bytes, strict=True)
        ]
        kinds = [self._kind(storage, kind) for storage, kind in zip(log.storage, log.kind, strict=True)]
        known = [row for row, storage in enumerate(log.storage) if storage >= 0]

        def kept(column: Sequence[Any]) -> list[Any]:
            return [column[row] for row in known]

        return Saved(
            storage=kept(log.storage),
            bytes=kept(sizes),
            saved_ns=clock.times(kept(log.saved_ns)),
            used_ns=clock.times(kept(log.used_ns)),
            freed_ns=clock.times(kept(log.freed_ns)),
            layer=[row_of(module) if module else -1 for module in kept(log.module)],
            op=[name.removeprefix("aten::") for name in kept(log.op)],
            kind=kept(kinds),
            again=kept(log.again),
        )

    def _kind(self, storage: int, kind: int) -> int:
        if storage >= 0 and self.lives.owner[storage] == Owner.PARAMETER:
            return int(SavedKind.WEIGHT)
        return int(SavedKind.WEIGHT_COPY) if storage in self._copies else kind

    def _readings(self, clock: WatchClock) -> Readings:
        reader = self._reader
        return Readings(clock.times(reader.times_ns), list(reader.resident_bytes), list(reader.device_bytes))

    def _notes(self) -> list[str]:
        log = self.saved
        notes = [CUT] if self.lives.is_cut else []
        if self._saved_only:
            notes.append(COMPILED)
        if log.saw_function:
            notes.append(ATTRIBUTES)
        if log.saw_transform:
            notes.append(
                "Inside torch.func's transforms nothing may look at saved tensors: what they save is not counted."
            )
        if log.failure:
            notes.append(f"What is saved for backward is known in part only ({log.failure}).")
        return notes

    def forget(self) -> None:
        self.lives.forget()


def _marks(marks: array[int], clock: WatchClock) -> list[tuple[int, int, int]]:
    rows = np.array(marks, dtype=np.int64).reshape(-1, MARK_WIDTH)
    starts, ends = clock.times(rows[:, 1].tolist()), clock.times(rows[:, 2].tolist())
    return list(zip(rows[:, 0].tolist(), starts, ends, strict=True))
