"""What compiled regions keep for backward, by hooks on saved tensors: a dispatch mode would have them compiled anew.

Such a region is one node of autograd, so all that it saves is told at once, when its forward has run (tried: torch
2.13, AOTAutograd with aot_eager and inductor). What it makes and frees inside of itself is told to nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longpole.capture.saved_hooks import WatchingHooks

if TYPE_CHECKING:
    from types import CodeType

    from longpole.capture.gradients import GradientRow
    from longpole.capture.memory import MemoryWatch


class SavedMode:
    """Stands where a GradientMode would, for a step of a script with compiled code: hooks, and nothing else."""

    def __init__(self, memory: MemoryWatch) -> None:
        self.memory = memory
        self.rows: list[GradientRow] = []
        self.graph_lines: set[tuple[CodeType, int]] = set()
        self.loss_lines: set[tuple[CodeType, int]] = set()
        self.update_lines: set[tuple[CodeType, int]] = set()
        self.failure: str | None = None
        self._hooks = WatchingHooks(memory.saved)

    def __enter__(self) -> SavedMode:
        self._hooks.start()
        return self

    def __exit__(self, *details: Any) -> None:
        self._hooks.stop()
