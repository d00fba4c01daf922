"""The value of the tensor that backward starts from, read so that the run does not wait for it."""

from __future__ import annotations

import weakref
from typing import Any

import torch

BUFFER_VALUES = 1024  # read from a device at once: one wait in so many values


class LossValues:
    """Numbers of values in the order they came; `read` gives them all.

    On a CPU a value is read at once, in under a microsecond. On a device it is copied, on the device and in the
    stream that computes it, into a buffer that is read when it is full.
    """

    def __init__(self) -> None:
        self._values: list[float] = []
        self._buffer: torch.Tensor | None = None
        self._filled = 0

    def add(self, tensor: torch.Tensor) -> int:
        """Keeps the value of a tensor of one element; returns its place."""
        place = len(self._values) + self._filled
        if tensor.device.type == "cpu" and self._buffer is None:
            self._values.append(float(tensor.item()))
        else:
            self.add_later(tensor)
        return place

    def add_later(self, tensor: torch.Tensor) -> None:
        if self._buffer is None:
            self._buffer = torch.empty(BUFFER_VALUES, dtype=torch.float32, device=tensor.device)
        self._buffer[self._filled].copy_(tensor.detach().reshape(()), non_blocking=True)
        self._filled += 1
        if self._filled == BUFFER_VALUES:
            self._flush()

    def read(self) -> list[float]:
        self._flush()
        return self._values

    def _flush(self) -> None:
        if self._buffer is not None and self._filled:
            self._values += self._buffer[: self._filled].tolist()
            self._filled = 0


class ScaledLosses:
    """Remembers what a GradScaler scaled: the loss that is followed is the one before scaling."""

    def __init__(self) -> None:
        self._last: tuple[weakref.ref[torch.Tensor], torch.Tensor] | None = None

    def note(self, scaled: Any, unscaled: Any) -> None:
        if isinstance(scaled, torch.Tensor) and isinstance(unscaled, torch.Tensor) and scaled is not unscaled:
            self._last = (weakref.ref(scaled), unscaled.detach())

    def before_scaling(self, root: torch.Tensor) -> torch.Tensor:
        if self._last is not None and self._last[0]() is root:
            return self._last[1]
        return root


def roots_of(tensors: Any) -> list[torch.Tensor]:
    """The tensors of one real element among what backward was called with; none where there is another."""
    found = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
    usable = [one for one in found if isinstance(one, torch.Tensor) and one.numel() == 1 and not one.is_complex()]
    return usable if len(usable) == len(found) else []
