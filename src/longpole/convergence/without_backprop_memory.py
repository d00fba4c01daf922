"""The most bytes that a piece of work holds at once, beyond what was there before it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def peak_bytes(work: Callable[[], object]) -> int | None:
    """On a GPU by its allocator's count; on CPU by the storages of all operations' results, each once while it lives.

    Scratch memory inside of an operation is not seen on CPU. None where torch cannot tell.
    """
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    storages = _Storages()
    try:
        with storages:
            work()
    except (RuntimeError, NotImplementedError, TypeError):
        return None
    return storages.peak


class _Storages(TorchDispatchMode):
    """Counts storages from the operation that made them until nothing refers to them."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._held = 0
        self._known: dict[int, int] = {}  # address of the storage -> bytes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        inputs = {_address(one) for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for out in tree_leaves(result):
            if isinstance(out, torch.Tensor) and _address(out) not in inputs:
                self._add(out.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # pyright: ignore[reportPrivateUsage] # the storage's identity in C++
        if key in self._known:
            return
        self._known[key] = storage.nbytes()
        self._held += storage.nbytes()
        self.peak = max(self.peak, self._held)
        weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self._held -= self._known.pop(key, 0)


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
