"""The optimizer's time given to layers, of which its ops know nothing but the shapes of parameters."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from longpole.trace import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.analysis.attribution import Attribution
    from longpole.analysis.host_times import Times
    from longpole.trace import Trace


def optimizer_by_layer(trace: Trace, attribution: Attribution, times: Times) -> NDArray[np.float64]:
    """The optimizer's time given to layers: ops by the shape they work on, the rest by number of tensors."""
    found = np.zeros(len(trace.layers))
    owners: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, layer in enumerate(trace.layers):
        for shape in layer.parameter_shapes:
            owners[shape].append(index)
    tensors = np.array([float(len(layer.parameter_shapes)) for layer in trace.layers])
    if not tensors.sum():
        return found
    rows = attribution.rows[attribution.phase[attribution.rows] == Phase.OPTIMIZER]
    # Operators on lists name hundreds of shapes, and the same ones each time: each list is looked at once.
    known: dict[str, NDArray[np.float64]] = {"": np.zeros(len(trace.layers))}
    rest = 0.0
    for row in rows.tolist():
        work = int(attribution.work[row])
        shapes = trace.text(int(trace.events.shapes[work])) if work >= 0 else ""
        if shapes not in known:
            known[shapes] = sizes_by_layer(_first_shapes(shapes), owners, len(trace.layers))
        sizes = known[shapes]
        total = sizes.sum()
        if total:
            found += times.ms[row] * sizes / total
        else:
            rest += float(times.ms[row])
    return found + rest * tensors / tensors.sum()


def sizes_by_layer(
    shapes: tuple[tuple[int, ...], ...], owners: Mapping[tuple[int, ...], Sequence[int]], count: int
) -> NDArray[np.float64]:
    """Elements of these tensors by layer; layers with tensors of one shape share them alike."""
    sizes = np.zeros(count)
    for shape, times_named in Counter(shapes).items():
        for owner in owners.get(shape, ()):
            sizes[owner] += times_named * _elements(shape) / len(owners[shape])
    return sizes


def _elements(shape: tuple[int, ...]) -> float:
    return float(np.prod(shape, dtype=np.float64)) or 1.0


@lru_cache(maxsize=65536)
def _first_shapes(shapes: str) -> tuple[tuple[int, ...], ...]:
    """The tensors an op of the optimizer works on: its first input, or each tensor of its first list."""
    found = json.loads(shapes) if shapes else []
    first = found[0] if found else []
    if first and isinstance(first[0], list):
        return tuple(tuple(shape) for shape in first)
    return (tuple(first),) if first else ()
