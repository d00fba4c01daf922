"""Another batch size for the DataLoader that trains, without an edit.

A DataLoader trains if it is made with `shuffle=True`, with a sampler that is no SequentialSampler and does not say
`shuffle = False`, or with `drop_last=True`: nobody drops samples that are to be evaluated. Where a script makes none
of these (IterableDataset, data in their order), the first DataLoader that is iterated while gradients are on trains.
All others keep their batch, and so do those whose batches are made by the dataset or by a batch sampler of the
script's own: for these there is the script's own flag.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from longpole.capture.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLAG = 'vary the script\'s own flag instead: --vary "--batch-size=8,16"'


class BatchSize:
    """In place from `start` on; `unmet` says whether, and why, no DataLoader was changed."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.changed = 0  # DataLoaders
        self._others: list[str] = []  # why DataLoaders that train could not be changed
        self._made = 0
        self._patches = Patches()

    def start(self) -> BatchSize:
        self._patches.set(DataLoader, "__init__", self._init(DataLoader.__init__))
        self._patches.set(DataLoader, "__iter__", self._iter(DataLoader.__iter__))
        return self

    def stop(self) -> None:
        self._patches.undo()

    def unmet(self) -> str | None:
        """In one line, why the script trained with the batch that it has; None where it did not."""
        if self.changed:
            return None
        if self._others:
            return f"the batch size could not be changed: {self._others[0]}; {FLAG}"
        what = "no DataLoader" if not self._made else "no DataLoader that it trains on"
        return f"the batch size could not be changed: the script has {what}; {FLAG}"

    def _init(self, function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function)

        @functools.wraps(function)  # Lightning looks at the arguments by name
        def longpole_init(loader: DataLoader[Any], *args: Any, **kwargs: Any) -> None:
            bound = signature.bind(loader, *args, **kwargs)
            self._made += 1
            if _trains(bound.arguments):
                self._change(bound.arguments)
            function(*bound.args, **bound.kwargs)

        return longpole_init

    def _change(self, arguments: dict[str, Any]) -> None:
        batches = arguments.get("batch_sampler")
        if batches is None and arguments.get("batch_size", 1) is not None:
            arguments["batch_size"] = self.samples
        elif type(batches) is BatchSampler:  # one that the script derived from it may count on its size
            arguments["batch_sampler"] = BatchSampler(batches.sampler, self.samples, batches.drop_last)
        else:
            self._others.append(_whose(batches))
            return
        self.changed += 1

    def _iter(self, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        @functools.wraps(function)
        def longpole_iter(loader: DataLoader[Any]) -> Iterator[Any]:
            if not self.changed and not self._others and torch.is_grad_enabled():
                self._resize(loader)
            return function(loader)

        return longpole_iter

    def _resize(self, loader: DataLoader[Any]) -> None:
        """Of a DataLoader that is made already. Its own attribute is guarded against being set."""
        batches: Any = loader.batch_sampler
        if type(batches) is not BatchSampler:
            self._others.append(_whose(batches))
            return
        batches.batch_size = self.samples
        object.__setattr__(loader, "batch_size", self.samples)
        self.changed += 1


def change_batch_size(samples: int) -> BatchSize:
    """For every DataLoader that trains and is made from now on."""
    return BatchSize(samples).start()


def _trains(arguments: dict[str, Any]) -> bool:
    if arguments.get("shuffle") or arguments.get("drop_last"):
        return True
    batches = arguments.get("batch_sampler")
    sampler = arguments.get("sampler") or getattr(batches, "sampler", None)
    if getattr(batches, "drop_last", False):
        return True
    if sampler is None or isinstance(sampler, SequentialSampler):
        return False
    return getattr(sampler, "shuffle", None) is not False


def _whose(batches: object) -> str:
    if batches is None:
        return "its dataset makes the batches (batch_size=None)"
    return f"its DataLoader has a batch sampler of its own ({type(batches).__name__})"
