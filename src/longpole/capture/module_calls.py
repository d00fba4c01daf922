"""Calls of modules in one watched step: in which a node was made, and what each read from outside of itself.

A call is a row: module, start and end (ns), first and last number of the nodes made in it. Calls end inner first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.trace.memory import Boundary

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

NO_NUMBER = 2**63  # sequence numbers of autograd nodes are below


def layers_of_nodes(calls: np.ndarray[Any, Any], layers: list[int], nodes: Sequence[int]) -> list[int]:
    """The layer of the innermost call in which each node was made; -1 outside of any. Calls end inner first."""
    # AccumulateGrad, which makes storages where a gradient is sparse, has the largest number of 64 bits.
    wanted = np.array([node if node < NO_NUMBER else -1 for node in nodes], dtype=np.int64)
    found = np.full(len(wanted), -1, dtype=np.int64)
    for (_, _, _, first, last), layer in zip(calls[::-1].tolist(), reversed(layers), strict=True):
        found[(first <= wanted) & (wanted < last)] = layer
    answer: list[int] = found.tolist()
    return answer


def boundary(calls: np.ndarray[Any, Any], layers: list[int], reads: array[int], born_ns: Sequence[int]) -> Boundary:
    """What each call read and did not make, calls round it included."""
    order = np.argsort(calls[:, 1], kind="stable")
    starts, ends, rows = calls[order, 1].tolist(), calls[order, 2].tolist(), [layers[i] for i in order.tolist()]
    seen: set[tuple[int, int]] = set()
    open_calls: list[int] = []
    following = 0
    for time_ns, storage in np.array(reads, dtype=np.int64).reshape(-1, 2).tolist():
        while following < len(starts) and starts[following] <= time_ns:
            open_calls.append(following)
            following += 1
        open_calls = [call for call in open_calls if ends[call] >= time_ns]
        seen.update((rows[call], storage) for call in open_calls if born_ns[storage] < starts[call])
    pairs = sorted(seen)
    return Boundary([layer for layer, _ in pairs], [storage for _, storage in pairs])
