"""The price list: what computing layers again would free at the peak, and what that would add to a step.

Bytes by each storage's life in the recorded step; milliseconds by the layer's measured forward, as far as it would run
again, and what checkpointing itself costs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.memory_prices import FitPrice, Price
from longpole.trace.memory import Owner
from longpole.whatif.fit import Candidate, Problem, fit, smallest_peak
from longpole.whatif.layer_names import shortest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from longpole.trace.trace import Layer
    from longpole.whatif.lives import LayerLife, Lives

LEAST_SHARE = 0.001  # of the peak: a layer that frees less is no candidate
MOST_CANDIDATES = 400
LADDER = (1, 2, 4, 8, 16, 32, 64, 128)  # so many of a row of equal blocks are priced
MOST_TRIES = 8


class PriceList:
    """A recorded step with the milliseconds of its layers' second forwards."""

    def __init__(
        self,
        lives: Lives,
        layers: Sequence[Layer],
        again_ms: Mapping[int, float],
        step_ms: float | None = None,
        noise_ms: float | None = None,
    ) -> None:
        self.step_ms = step_ms
        self.noise_ms = noise_ms
        self.lives = lives
        self.paths = [layer.path for layer in layers]
        self.types = [layer.type for layer in layers]
        self.again_ms = again_ms
        self.peak_bytes = lives.peak_bytes()
        self.kept_bytes = {layer: self._kept(life) for layer, life in lives.layers.items()}
        least = max(int(LEAST_SHARE * self.peak_bytes), 1)
        known = [life for layer, life in lives.layers.items() if layer in again_ms and self.paths[layer]]
        able = [life for life in known if not life.recomputed and self.kept_bytes[life.layer] >= least]
        able = [life for life in able if self._is_whole(life)]
        self.candidates = sorted(able, key=lambda life: -self.kept_bytes[life.layer])[:MOST_CANDIDATES]

    def _kept(self, life: LayerLife) -> int:
        """What one forward's end would leave fewer bytes of: what is freed, less inputs that are kept for it alone."""
        if not life.windows:
            return 0
        freed = sum(int(self.lives.bytes[storage]) for storage in self.lives.freed([life]))
        again, storages = life.windows[-1].again_ns, self.lives.memory.storages
        kept = sum(
            int(self.lives.bytes[storage])
            for storage in life.boundary
            if storages.owner[storage] == Owner.NOBODY and self.lives.died[storage] < again
        )
        return freed // len(life.windows) - kept

    def _is_whole(self, life: LayerLife) -> bool:
        """Whether nothing else runs between its first and its last saved tensor: so where it is called in one place."""
        saved, mine = self.lives.memory.saved, set(life.rows)
        window = life.windows[0]
        first = saved.saved_ns[life.rows[0]]
        return all(
            row in mine
            for row, time in enumerate(saved.saved_ns)
            if first <= time <= window.kept_ns and not saved.again[row]
        )

    def price(self, lives: Iterable[LayerLife]) -> Price:
        """What these layers, none inside of another, come to together."""
        chosen = list(lives)
        peak = self.lives.peak_bytes(chosen)
        paths = tuple(self.paths[life.layer] for life in chosen)
        ms = sum(self.again_ms[life.layer] for life in chosen)
        byte_ms = sum(self._byte_ms(life) for life in chosen)
        share = ms / self.step_ms if self.step_ms else None
        return Price(paths, shortest(paths), self.peak_bytes - peak, peak, ms, share, byte_ms)

    def _byte_ms(self, life: LayerLife) -> float:
        held_ns = sum(window.again_ns - window.kept_ns for window in life.windows)
        return max(self.kept_bytes[life.layer], 0) * held_ns / 1e6

    def list(self) -> list[Price]:
        """Layers, and rows of equal blocks, that bring the peak down; the most bytes first.

        A row that another beats both in bytes and in time is left out.
        """
        rows = [self.price(lives) for lives in self._groups()]
        rows = [row for row in rows if row.freed_bytes > 0]
        rows.sort(key=lambda row: (-row.freed_bytes, row.ms, len(row.layers)))
        found: list[Price] = []
        for row in rows:
            if not found or row.ms < found[-1].ms:
                found.append(row)
        return found

    def _groups(self) -> list[list[LayerLife]]:
        families: dict[tuple[str, str], list[LayerLife]] = {}
        for life in self.candidates:
            key = (re.sub(r"\d+", "#", self.paths[life.layer]), self.types[life.layer])
            families.setdefault(key, []).append(life)
        found: list[list[LayerLife]] = []
        for family in families.values():
            family.sort(key=lambda life: life.windows[0].forward_ns)
            counts = {count for count in LADDER if count < len(family)} | {len(family), max(len(family) - 1, 1)}
            found += [family[:count] for count in sorted(counts)]
        return found

    # -- fitting ------------------------------------------------------------------------------------------

    def problem(self) -> tuple[Problem, dict[str, LayerLife]]:
        """The step as positions and levels."""
        ends = sorted({life.windows[0].kept_ns for life in self.candidates})
        saved_ns = self.lives.memory.saved.saved_ns
        spans = {
            life.layer: (
                int(np.searchsorted(ends, saved_ns[life.rows[0]], side="left")),
                int(np.searchsorted(ends, life.windows[0].kept_ns, side="left")) + 1,
            )
            for life in self.candidates
        }
        candidates = [
            Candidate(
                self.paths[life.layer],
                *spans[life.layer],
                max(self.kept_bytes[life.layer], 0),
                self.again_ms[life.layer],
                self._level(life),
            )
            for life in self.candidates
        ]
        by_path = {self.paths[life.layer]: life for life in self.candidates}
        return Problem(self._levels(spans, len(ends) + 1), candidates), by_path

    def _levels(self, spans: Mapping[int, tuple[int, int]], count: int) -> list[int]:
        times, held = self.lives.base
        position = np.zeros(len(times), dtype=np.int64)
        for life in self.candidates:
            for window in life.windows:
                first, last = np.searchsorted(times, [window.kept_ns, window.again_ns])
                position[first:last] = np.maximum(position[first:last], spans[life.layer][1])
        levels = np.zeros(count, dtype=np.int64)
        np.maximum.at(levels, position, held)
        return [int(level) for level in levels]

    def _level(self, life: LayerLife) -> int:
        """The most while it runs, forward, again, and backward."""
        times, held = self.lives.base
        most = 0
        for window in life.windows:
            for first_ns, last_ns in ((window.forward_ns, window.kept_ns), (window.again_ns, window.end_ns)):
                first, last = np.searchsorted(times, [first_ns, last_ns])
                most = max(most, int(held[first:last].max(initial=0)))
            at = int(np.searchsorted(times, window.again_ns, side="left")) - 1
            before = int(held[at]) if at >= 0 else 0
            most = max(most, before - self.kept_bytes[life.layer] + self.lives.rise_bytes(window))
        return most

    def fit(self, budget_bytes: int) -> FitPrice:
        """The cheapest set for a budget, its peak by the storages' lives."""
        problem, by_path = self.problem()
        wanted = budget_bytes
        for _ in range(MOST_TRIES):
            found = fit(problem, wanted)
            if found is None:
                break
            price = self.price(by_path[one.name] for one in found.chosen)
            if price.peak_bytes <= budget_bytes:
                return FitPrice(budget_bytes, price, found.gap_ms)
            wanted -= max(price.peak_bytes - budget_bytes, 1)  # layers together free less than one by one
        return FitPrice(budget_bytes, None, smallest=self._smallest(problem, by_path))

    def _smallest(self, problem: Problem, by_path: Mapping[str, LayerLife]) -> Price:
        best = self.price(by_path[one.name] for one in smallest_peak(problem).chosen)
        return min([best, *self.list()], key=lambda price: (price.peak_bytes, price.ms))
