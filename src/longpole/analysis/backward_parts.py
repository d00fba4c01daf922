"""What backward is made of, over all layers: a container's own work (an attention without a module) included."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from longpole.analysis.study import Study


class BackwardParts(NamedTuple):
    """Milliseconds a step; None where they were not told apart."""

    input_grad_ms: float | None
    weight_grad_ms: float | None
    recompute_ms: float | None


def backward_parts(study: Study) -> BackwardParts:
    """By the layers, or by the ops where no layer knows its own."""
    leaves = [layer for layer in study.layers if not layer.container]
    own = [layer for layer in study.layers if layer.container]
    inputs = total_of([*(x.input_grad_ms for x in leaves), *(x.own_input_grad_ms for x in own)])
    weights = total_of([*(x.weight_grad_ms for x in leaves), *(x.own_weight_grad_ms for x in own)])
    if inputs is None and weights is None:
        inputs = total_of(op.ms for op in study.ops if op.role == "input_grad")
        weights = total_of(op.ms for op in study.ops if op.role == "weight_grad")
    again = total_of(op.ms for op in study.ops if op.role == "recompute")
    return BackwardParts(inputs, weights, again)


def total_of(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
