"""What a layer must find as it was when its forward runs a second time, and what that second time must not change.

torch.utils.checkpoint restores torch's own random numbers. A layer may also draw from `random` or numpy, and it
may write buffers: the running statistics of a batch norm would learn from each batch twice, and the vectors of a
spectral norm would have moved on.
"""

from __future__ import annotations

import random
import sys
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

Place = tuple[Any, str]  # the module that has the buffer, and the buffer's name


class Buffers:
    """The buffers that a layer writes in forward, found by comparing all of them at its first call."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = weakref.ref(layer)
        self._written: list[Place] | None = None

    def before(self) -> dict[Place, torch.Tensor]:
        """Copies of what forward will write; at the first call, of all."""
        places = self._all() if self._written is None else self._written
        return {place: _buffer(place).detach().clone() for place in places}

    def after(self, copies: dict[Place, torch.Tensor]) -> None:
        """Lets go of the copies of buffers that forward did not write."""
        if self._written is None:
            self._written = [place for place, copy in copies.items() if not _is_same(copy, _buffer(place))]
        for place in [place for place in copies if place not in self._written]:
            del copies[place]

    def _all(self) -> list[Place]:
        layer = self._layer()
        modules = layer.modules() if layer is not None else ()
        return [(module, name) for module in modules for name, _ in module.named_buffers(recurse=False)]


def _buffer(place: Place) -> torch.Tensor:
    module, name = place
    return module._buffers[name]


def _is_same(before: torch.Tensor, now: torch.Tensor | None) -> bool:
    return now is not None and before.shape == now.shape and before.dtype == now.dtype and torch.equal(before, now)


@contextmanager
def as_it_was(copies: dict[Place, torch.Tensor], draws: Draws) -> Generator[None]:
    """Inside, the written buffers and Python's random numbers are those of the first time; after it, today's."""
    today = {place: place[0]._buffers[place[1]] for place in copies}
    now = Draws()
    for (module, name), copy in copies.items():
        module._buffers[name] = copy.clone()  # backward may come a second time
    draws.restore()
    try:
        yield
    finally:
        now.restore()
        for (module, name), buffer in today.items():
            module._buffers[name] = buffer


class Draws:
    """Where `random` and numpy were when this was made."""

    def __init__(self) -> None:
        self._python = random.getstate()
        numpy = sys.modules.get("numpy")
        self._numpy: Any = numpy.random.get_state() if numpy is not None else None

    def restore(self) -> None:
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
