"""What the loss asks of each output directly, where one output of a network is computed from another.

A network that returns its loss beside its logits has the loss's gradient at both, but the logits reach the loss only
through it: to count both would count everything before the logits twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTHING = 1e-5  # of a gradient: what is left of it by rounding, once all of it is explained


def direct_slopes(outputs: Sequence[torch.Tensor], slopes: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """`slopes[i]` is dL/d(output i) by all ways; the result leaves out the ways that lead through later outputs.

    `outputs` have their graph. Later ones first: what they are owed is passed on to those that they are made from.
    """
    found: list[torch.Tensor | None] = list(slopes)
    order = sorted(
        (index for index, slope in enumerate(slopes) if slope is not None and outputs[index].grad_fn is not None),
        key=lambda index: _age(outputs[index]),
        reverse=True,
    )
    for place, later in enumerate(order):
        owed = found[later]
        if owed is None:
            continue
        earlier = [index for index in order[place + 1 :] if found[index] is not None]
        passed = _passed(outputs[later], [outputs[index] for index in earlier], owed)
        for index, part in zip(earlier, passed, strict=True):
            found[index] = _without(found[index], part, slopes[index])
    return found


def _age(output: torch.Tensor) -> int:
    node = output.grad_fn
    number: Any = getattr(node, "_sequence_nr", None)  # in the order in which forward made the nodes
    return number() if number is not None else 0


def _passed(later: torch.Tensor, earlier: list[torch.Tensor], owed: torch.Tensor) -> list[torch.Tensor | None]:
    if not earlier:
        return []
    return list(torch.autograd.grad(later, earlier, owed, retain_graph=True, allow_unused=True))


def _without(slope: torch.Tensor | None, part: torch.Tensor | None, whole: torch.Tensor | None) -> torch.Tensor | None:
    if slope is None or part is None or whole is None:
        return slope
    left = slope - part
    return left if float(left.norm()) > NOTHING * float(whole.norm()) else None
