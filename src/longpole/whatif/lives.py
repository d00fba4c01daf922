"""Memory of one step as it would be with layers computed again: each storage's life, cut or stretched."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from longpole.trace.memory import Owner, SavedKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from longpole.trace.memory import StepMemory
    from longpole.trace.trace import Layer

SLACK = 0.01  # of the step: a storage that dies so soon after the graph let go of it was held by the graph alone


@dataclass(frozen=True, slots=True)
class Window:
    """One forward of a layer and its backward: nanoseconds since the start of the step."""

    forward_ns: int  # the first storage of it is made
    kept_ns: int  # the last tensor is saved
    again_ns: int  # the first saved tensor is asked for: here it would be computed again
    end_ns: int  # the last saved tensor is let go


@dataclass(slots=True)
class LayerLife:
    """What one layer, children included, keeps for backward in the step."""

    layer: int
    windows: list[Window] = field(default_factory=list[Window])
    rows: list[int] = field(default_factory=list[int])  # of StepMemory.saved, weights among them
    last_row: int = -1  # the last tensor saved in forward: what comes after it is not computed again
    boundary: frozenset[int] = frozenset()  # storages that it reads and does not make
    recomputed: bool = False  # by the script already


class Lives:
    """The storages of a step, what each layer saves of them, and when."""

    def __init__(self, memory: StepMemory, layers: Sequence[Layer]) -> None:
        self.memory = memory
        storages = memory.storages
        self.length_ns = max(memory.length_ns, 1)
        self.bytes: NDArray[np.int64] = np.array(storages.bytes, dtype=np.int64)
        self.born: NDArray[np.int64] = np.maximum(np.array(storages.born_ns, dtype=np.int64), 0)
        died = np.array(storages.died_ns, dtype=np.int64)
        self.died: NDArray[np.int64] = np.minimum(died, self.length_ns + 1)
        inside = memory.inside
        ends = np.array(inside.time_ns, dtype=np.int64)
        sizes = np.array(inside.bytes, dtype=np.int64)
        self._inside = np.stack([ends - 1, ends, sizes], axis=1)  # born, died, bytes of what operations hold inside
        self.of_graph = self._held_by_graph_alone()
        self.savers: dict[int, set[int]] = {}  # storage -> layers that saved it, the innermost
        self._last_saved: dict[int, int] = {}  # storage -> when, the last time
        self.parents = [layer.parent for layer in layers]
        self.layers = self._layers(len(layers))

    def _held_by_graph_alone(self) -> NDArray[np.bool_]:
        """Storages made in the step, saved, and gone when the graph let go of them."""
        saved, storages = self.memory.saved, self.memory.storages
        freed = np.full(len(self.bytes), -1, dtype=np.int64)
        np.maximum.at(freed, np.array(saved.storage, dtype=np.intp), np.array(saved.freed_ns, dtype=np.int64))
        mine = (np.array(storages.owner) == Owner.NOBODY) & (np.array(storages.born_ns) >= 0)
        return mine & (freed >= 0) & (self.died <= freed + SLACK * self.length_ns)

    def _layers(self, count: int) -> dict[int, LayerLife]:
        saved = self.memory.saved
        found: dict[int, LayerLife] = {}
        for row in np.argsort(np.array(saved.saved_ns), kind="stable").tolist():
            if saved.kind[row] != SavedKind.WEIGHT and not saved.again[row]:
                self.savers.setdefault(saved.storage[row], set()).add(saved.layer[row])
                self._last_saved[saved.storage[row]] = saved.saved_ns[row]
            for layer in self.ancestors(saved.layer[row]):
                life = found.setdefault(layer, LayerLife(layer))
                life.recomputed |= saved.again[row]
                if not saved.again[row]:
                    life.rows.append(row)
        boundaries: dict[int, set[int]] = {}
        for layer, storage in zip(self.memory.boundary.layer, self.memory.boundary.storage, strict=True):
            boundaries.setdefault(layer, set()).add(storage)
        first_made = self._first_made()
        for layer, life in found.items():
            life.boundary = frozenset(boundaries.get(layer, ()))
            life.windows = self._windows(life, first_made.get(layer, []))
            life.last_row = life.rows[-1] if life.rows else -1
        return {layer: life for layer, life in found.items() if life.windows and layer < count}

    def ancestors(self, layer: int) -> list[int]:
        found: list[int] = []
        while layer >= 0:
            found.append(layer)
            layer = self.parents[layer]
        return found

    def _first_made(self) -> dict[int, list[int]]:
        """When storages were made in each layer, in order."""
        found: dict[int, list[int]] = {}
        layers = self.memory.storages.layer
        for storage in np.argsort(self.born, kind="stable").tolist():
            for layer in self.ancestors(layers[storage]):
                found.setdefault(layer, []).append(int(self.born[storage]))
        return found

    def _windows(self, life: LayerLife, made: list[int]) -> list[Window]:
        """Forwards of the layer, each with its backward; several micro-batches make several."""
        saved, found = self.memory.saved, list[Window]()
        group: list[int] = []
        for row in life.rows:
            if group and saved.saved_ns[row] > self._first_used(group):
                self._close(group, made, found)
                group = []
            group.append(row)
        self._close(group, made, found)
        return found

    def _first_used(self, rows: list[int]) -> int:
        saved = self.memory.saved
        used = [saved.used_ns[row] for row in rows if saved.used_ns[row] >= 0]
        return min(used, default=self.length_ns + 1)

    def _close(self, group: list[int], made: list[int], found: list[Window]) -> None:
        saved = self.memory.saved
        again = self._first_used(group) if group else self.length_ns + 1
        if again > self.length_ns:  # never used: no backward came, and nothing would be computed again
            return
        first = saved.saved_ns[group[0]]
        before = found[-1].end_ns if found else -1
        start = min((time for time in made if before < time <= first), default=first)
        end = max(min(saved.freed_ns[row], self.length_ns) for row in group)
        found.append(Window(start, saved.saved_ns[group[-1]], again, max(end, again)))

    # -- what would be ------------------------------------------------------------------------------------

    def curve(self, chosen: Iterable[LayerLife] = ()) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Times at which bytes change, and the bytes held from each on, with these layers computed again."""
        lives = list(chosen)
        born, died, sizes = self.born, self.died.copy(), self.bytes
        extra: list[tuple[int, int, int]] = []  # born, died, bytes
        freed: dict[int, LayerLife] = self.freed(lives)
        for storage, life in freed.items():
            window = self._window_of(life, storage)
            if window is not None and died[storage] > window.again_ns > window.kept_ns:
                extra.append((window.again_ns, int(died[storage]), int(sizes[storage])))
                died[storage] = max(window.kept_ns, int(self.born[storage]))
        for life in lives:
            for storage in life.boundary:
                died[storage] = max(int(died[storage]), self._needed_until(life, storage))
            extra += [self._spike(life, window, freed) for window in life.windows]
        more = np.concatenate([self._inside, np.array(extra, dtype=np.int64).reshape(-1, 3)])
        return _curve(
            np.concatenate([born, more[:, 0]]), np.concatenate([died, more[:, 1]]), np.concatenate([sizes, more[:, 2]])
        )

    def peak_bytes(self, chosen: Iterable[LayerLife] = ()) -> int:
        _, held = self.curve(chosen)
        return int(held.max()) if len(held) else 0

    def freed(self, lives: Sequence[LayerLife]) -> dict[int, LayerLife]:
        """Storages that nobody would keep between forward and backward any more, and the layer that keeps each now."""
        whose = {life.layer: life for life in lives}
        kept = {storage for life in lives for storage in life.boundary}
        found: dict[int, LayerLife] = {}
        for storage, layers in self.savers.items():
            if storage in kept or not self.of_graph[storage]:
                continue
            owners = [next((whose[a] for a in self.ancestors(layer) if a in whose), None) for layer in layers]
            owner = owners[0]
            if owner is not None and all(one is not None for one in owners):
                found[storage] = owner
        return found

    def _window_of(self, life: LayerLife, storage: int) -> Window | None:
        saved_ns = self._last_saved[storage]
        return next((window for window in life.windows if saved_ns <= window.kept_ns), None)

    def _needed_until(self, life: LayerLife, storage: int) -> int:
        """A layer's input waits for its backward; what was made for one micro-batch, for that one's."""
        for window in life.windows:
            if self.born[storage] <= window.kept_ns and self.memory.storages.owner[storage] == Owner.NOBODY:
                return window.end_ns
        return 0

    def _spike(self, life: LayerLife, window: Window, freed: dict[int, LayerLife]) -> tuple[int, int, int]:
        """What forward needs for a moment beyond what it keeps, it needs again when it runs again."""
        back = sum(
            int(self.bytes[storage])
            for storage, owner in freed.items()
            if owner is life and self._window_of(life, storage) is window
        )
        return (window.again_ns, window.again_ns + 1, max(self.rise_bytes(window) - back, 0))

    def rise_bytes(self, window: Window) -> int:
        """How far memory climbs in a layer's forward, up to the last tensor it saves."""
        times, held = self.base
        first, last = np.searchsorted(times, [window.forward_ns, window.kept_ns + 1])
        before = int(held[first - 1]) if first else 0
        return max(int(held[first:last].max(initial=before)) - before, 0)

    @cached_property
    def base(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The step as it was: times at which bytes change, and the bytes held from each on."""
        born, died, sizes = self._inside.T
        return _curve(
            np.concatenate([self.born, born]),
            np.concatenate([self.died, died]),
            np.concatenate([self.bytes, sizes]),
        )


def _curve(
    born: NDArray[np.int64], died: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    times = np.concatenate([born, died])
    changes = np.concatenate([sizes, -sizes])
    order = np.argsort(times, kind="stable")
    times, held = times[order], np.cumsum(changes[order])
    last_of_moment = np.append(times[1:] != times[:-1], True) if len(times) else np.zeros(0, dtype=bool)
    return times[last_of_moment], held[last_of_moment]
