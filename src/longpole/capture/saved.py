"""What autograd saves for backward: hooks that note each tensor and change neither values, lifetimes nor errors.

A hook that returned the tensor itself would keep an operation's output alive for good: the node holds the output, the
output holds the node, and no collector sees the circle. So what is kept is detached: the same memory and the same
version counter without the way back. And torch checks versions only where there are no hooks, so it is done here.
"""

from __future__ import annotations

import re
import weakref
from typing import TYPE_CHECKING, Any

import torch

from longpole.capture import internals
from longpole.trace.memory import ALIVE, MOST_ROWS, Owner, SavedKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.capture.storages import StorageLives

COMPILED_REGION = "CompiledFunctionBackward"  # of AOTAutograd
MASK_OPS = frozenset({"aten::bernoulli_", "aten::bernoulli", "aten::native_dropout"})


class Kept:
    """What autograd holds in place of a tensor; when it goes, the graph has let go of the tensor."""

    __slots__ = ("log", "original", "output", "row", "tensor", "version")

    def __init__(self, tensor: torch.Tensor, log: SavedLog) -> None:
        self.original = weakref.ref(tensor)  # for the words of an error only
        self.output = _output_of_its_own_node(tensor)
        self.version = _version(tensor)
        self.tensor = internals.detached(tensor)
        self.row = -1
        self.log = log

    def __del__(self) -> None:
        if self.row >= 0:
            self.log.freed(self.row)


class SavedLog:
    """Columns, one entry a saved tensor. `pack` and `unpack` are for torch; `op_done` is told of each operation."""

    def __init__(self, lives: StorageLives, clock: Callable[[], int], module_of_now: Callable[[], int]) -> None:
        self.storage: list[int] = []
        self.bytes: list[int] = []
        self.saved_ns: list[int] = []
        self.used_ns: list[int] = []
        self.freed_ns: list[int] = []
        self.module: list[int] = []
        self.sequence: list[int] = []  # of the node that saved it
        self.op: list[str] = []
        self.kind: list[int] = []
        self.again: list[bool] = []
        self.failure: str | None = None
        self.is_open = True
        self.saw_function = False  # an autograd.Function of the script's
        self.saw_transform = False  # hooks had to step aside
        self.masks: set[int] = set()  # rows of storages that hold random masks
        self._lives = lives
        self._clock = clock
        self._module = module_of_now
        self._waiting: list[int] = []  # saved, and the operation is not done yet
        self._last_op = ""
        self._last_sequence = -1  # of the operation that made a node last
        self._last_results: list[int] = []
        self._last_types: list[torch.dtype] = []

    def pack(self, tensor: torch.Tensor) -> Any:
        try:
            kept = Kept(tensor, self)
        except Exception as error:  # a tensor of a strange kind: as it is, then, rather than a run that fails
            self.failure = f"{type(error).__name__}: {error}"
            return tensor
        if self.is_open and len(self.storage) < MOST_ROWS:
            try:
                self._note(tensor, kept)
            except Exception as error:
                self.failure = f"{type(error).__name__}: {error}"
        return kept

    def unpack(self, kept: Kept | torch.Tensor) -> torch.Tensor:
        if isinstance(kept, torch.Tensor):
            return kept
        if kept.version is not None and kept.version != _version(kept.tensor):
            raise RuntimeError(modified_in_place(kept))
        if self.is_open and kept.row >= 0:
            self._used(kept.row)
        return kept.tensor

    def freed(self, row: int) -> None:
        if self.is_open:
            self.freed_ns[row] = self._clock()

    def op_done(self, name: str, results: Sequence[torch.Tensor], rows: list[int]) -> None:
        """An operation has run: what was saved since the one before is what it read."""
        sequence = internals.sequence_number()
        for row in self._waiting:
            if self.sequence[row] == sequence - 1:
                self.op[row] = name
        self._waiting.clear()
        if name in MASK_OPS:
            self.masks.update(rows[-1:])
        if sequence != self._last_sequence:  # further operations of the same node do not rename it
            self._last_sequence, self._last_op = sequence, name
            self._last_results, self._last_types = rows, [tensor.dtype for tensor in results]

    def _note(self, tensor: torch.Tensor, kept: Kept) -> None:
        row, sequence = len(self.storage), internals.sequence_number() - 1
        node = internals.current_node()
        storage = self._lives.add(tensor, Owner.NOBODY)
        self.storage.append(storage)
        self.bytes.append(extent(tensor))
        self.saved_ns.append(self._clock())
        self.used_ns.append(-1)
        self.freed_ns.append(ALIVE)
        self.module.append(self._module())
        self.sequence.append(sequence)
        self.again.append(node is not None)
        is_after = sequence + 1 == self._last_sequence
        self.op.append(self._last_op if is_after else "")
        self.kind.append(int(self._kind(tensor, storage, is_after=is_after)))
        if not is_after:
            self._waiting.append(row)
        kept.row = row

    def _kind(self, tensor: torch.Tensor, storage: int, *, is_after: bool) -> SavedKind:
        if storage in self.masks or tensor.dtype == torch.bool:
            return SavedKind.MASK
        if not is_after or storage not in self._last_results:
            return SavedKind.INPUT
        place = self._last_results.index(storage)
        if place == 0:
            return SavedKind.OUTPUT
        return SavedKind.STATISTICS if self._last_types[place].is_floating_point else SavedKind.MASK

    def _used(self, row: int) -> None:
        self.used_ns[row] = self._clock()
        node = internals.current_node()
        if node is None:
            return
        name = internals.name_of(node)
        self.op[row] = self.op[row] or name
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            # A Function of the script's: what ran inside its forward is not its name.
            self.saw_function = self.saw_function or name != COMPILED_REGION
            self.op[row] = name.removesuffix("Backward")
            is_made = self.storage[row] >= 0 and self._lives.made_at[self.storage[row]] == self.sequence[row] + 1
            if self.kind[row] in (SavedKind.INPUT, SavedKind.OUTPUT):
                self.kind[row] = int(SavedKind.OUTPUT if is_made else SavedKind.INPUT)


def extent(tensor: torch.Tensor) -> int:
    """Bytes from the first to the last element: what a view spans of its storage."""
    if tensor.is_contiguous():
        return tensor.nbytes
    spans = [(size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
    return (sum(spans) + 1) * tensor.element_size() if tensor.numel() else 0


def _output_of_its_own_node(tensor: torch.Tensor) -> int:
    """Which output of the node that saves it this is; -1 where another node made it."""
    made_by = tensor.grad_fn
    is_own = made_by is not None and internals.sequence_of(made_by) == internals.sequence_number() - 1
    return tensor.output_nr if is_own else -1


def _version(tensor: torch.Tensor) -> int | None:
    try:
        return tensor._version
    except RuntimeError:  # a tensor of inference mode has no versions
        return None


def modified_in_place(kept: Kept) -> str:
    """The words in which torch itself says so (torch/csrc/autograd/saved_variable.cpp: unpack)."""
    tensor, original, node = kept.tensor, kept.original(), internals.current_node()
    which = ""
    if kept.output >= 0 and node is not None:
        which = f", which is output {kept.output} of {_short(node)},"
    elif original is not None and original.grad_fn is not None:
        which = f", which is output {original.output_nr} of {_short(original.grad_fn)},"
    return (
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[{tensor.type()} {list(tensor.shape)}]{which} is at version {_version(tensor)}; "
        f"expected version {kept.version} instead. Hint: enable anomaly detection to find the operation that "
        "failed to compute its gradient, with torch.autograd.set_detect_anomaly(True, check_nan=False)."
    )


def _short(node: Any) -> str:
    return re.sub(r"Backward\d*$", "", internals.name_of(node))
