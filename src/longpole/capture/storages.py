"""Storages with their lives: which operation made each, in which layer, and when it was freed.

A storage is watched through a weak reference to its Python object, which torch keeps as long as the memory: nothing is
kept alive, and the callback comes when the memory is given back, also where only C++ held it.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from longpole.capture import internals
from longpole.trace.memory import ALIVE, MOST_ROWS, Owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Watched(weakref.ref[Any]):
    """A weak reference that knows its row; its hash is not asked for."""

    __slots__ = ("key", "row")
    key: int
    row: int


class StorageLives:
    """Columns, one entry a storage, in the order of first sight. Times are of the clock given."""

    def __init__(self, clock: Callable[[], int], device: str) -> None:
        self.bytes: list[int] = []
        self.born_ns: list[int] = []
        self.died_ns: list[int] = []
        self.owner: list[int] = []
        self.module: list[int] = []  # id of the module in whose forward it was made; 0 in none
        self.node: list[int] = []  # sequence number of the autograd node that made it; -1 in forward
        self.made_at: list[int] = []  # the sequence number that the next node would have had
        self.op: list[str] = []
        self.is_cut = False  # there were more than MOST_ROWS
        self.device = device
        self._clock = clock
        self._watched: dict[int, _Watched] = {}

    def row(self, tensor: torch.Tensor) -> int:
        """The row of its storage; -1 where it has none, is on another device, or was never seen."""
        storage = self._storage(tensor)
        found = self._watched.get(internals.storage_key(storage)) if storage is not None else None
        return found.row if found is not None else -1

    def add(
        self, tensor: torch.Tensor, owner: Owner, op: str = "", module: int = 0, node: int = -1, made_at: int = -1
    ) -> int:
        """The row of its storage, new where it was never seen; -1 as for `row`."""
        storage = self._storage(tensor)
        if storage is None:
            return -1
        key = internals.storage_key(storage)
        found = self._watched.get(key)
        if found is not None:
            self.bytes[found.row] = storage.nbytes()  # it may have been resized
            return found.row
        if len(self.bytes) >= MOST_ROWS:
            self.is_cut = True
            return -1
        row = len(self.bytes)
        watched = _Watched(storage, self._died)
        watched.key, watched.row = key, row
        self._watched[key] = watched
        self.bytes.append(storage.nbytes())
        self.born_ns.append(self._clock())
        self.died_ns.append(ALIVE)
        self.owner.append(int(owner))
        self.op.append(op)
        self.module.append(module)
        self.node.append(node)
        self.made_at.append(made_at)
        return row

    def forget(self) -> None:
        """Ends the watching."""
        self._watched.clear()

    def _storage(self, tensor: torch.Tensor) -> Any:
        try:
            if tensor.device.type != self.device:
                return None
            storage = tensor.untyped_storage()
            return storage if storage.nbytes() else None
        except (RuntimeError, NotImplementedError, AttributeError):  # sparse, nested, fake
            return None

    def _died(self, watched: _Watched) -> None:
        self.died_ns[watched.row] = self._clock()
        if self._watched.get(watched.key) is watched:
            del self._watched[watched.key]


def tensors_in(values: Any, depth: int = 3) -> Iterator[torch.Tensor]:
    """Tensors among arguments or results: alone, in lists, in lists of lists."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (list, tuple)) and depth:
        for value in values:
            if isinstance(value, (torch.Tensor, list, tuple)):
                yield from tensors_in(value, depth - 1)
