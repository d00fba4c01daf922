"""What the allocator handed out and took back in a recorded step: Kineto's memory events.

They see what no operation tells: workspace that one allocates and frees inside of itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from longpole.capture import internals
from longpole.trace.memory import MOST_ROWS, Allocations

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MEMORY = "[memory]"
ERRORS_ONLY = 2


class QuietFrees:
    """Keeps the allocator's warning from the script's stderr: one a second where a storage older than the recording
    is freed. `can` is False where that cannot be done, and then allocations must not be recorded."""

    def __init__(self) -> None:
        self._level = internals.log_level()
        self._before: int | None = None

    @property
    def can(self) -> bool:
        return self._level is not None

    def start(self) -> None:
        if self._level is not None and self._level.value < ERRORS_ONLY:
            self._before, self._level.value = self._level.value, ERRORS_ONLY

    def stop(self) -> None:
        if self._before is not None:
            self._level.value, self._before = self._before, None


def sizes_of(events: Iterable[Any], offset_ns: int) -> list[tuple[int, int]]:
    """When on the clock of the marks, and how many bytes, in order: of the device where tensors of interest are.

    `events` are those named MEMORY.
    """
    device = internals.CUDA if torch.cuda.is_initialized() else internals.CPU
    found = [(event.start_ns() - offset_ns, event.nbytes()) for event in events if event.device_type() == device]
    return sorted(found, key=lambda one: one[0])


def of_step(sizes: Sequence[tuple[int, int]], step: int, start_ns: int) -> Allocations | None:
    """Those from `start_ns` on, in the step that ended last; None where there are none, or too many."""
    mine = [one for one in sizes if one[0] >= start_ns]
    if not 0 < len(mine) <= MOST_ROWS:
        return None
    # With a step before this one in the recording it is known what that one left to be given back.
    is_whole = len(sizes) - len(mine) > len(mine) // 2
    return Allocations(step, [time for time, _ in mine], [size for _, size in mine], is_whole)
