"""Optimizers of many tensors at once: fused (one pass over everything) and foreach (one pass an operation).

A trace names the tensors of a list only where it records the shapes of lists; elsewhere the cost is not known
(on a CPU, the operators inside `_foreach_*` carry theirs).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from longpole.cost.model import Call, Cost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Reads and writes of each parameter element (param, grad, states), operations an element.
#   AdamW: decay 1, first moment 3, second 4, square root, two corrections, sum, quotient, step: 15.
_FUSED = {
    "aten::_fused_adam_": (4, 3, 14),
    "aten::_fused_adamw_": (4, 3, 15),
    "aten::_fused_adagrad_": (3, 2, 7),
    "aten::_fused_sgd_": (3, 2, 4),
}
# How many lists of tensors a foreach operation reads; it writes one.
_READS = {"add": 2, "sub": 2, "mul": 2, "div": 2, "maximum": 2, "minimum": 2, "addcmul": 3, "addcdiv": 3, "lerp": 2}


def fused(call: Call) -> Cost | None:
    """_fused_adamw_(params, grads, first moments, second moments, ...); plain SGD has no third list."""
    count = call.list_elements(0)
    if count is None:
        return None
    reads, writes, steps = _FUSED[call.name]
    if call.name == "aten::_fused_sgd_" and call.list_elements(2) is None:
        reads, writes, steps = 2, 1, 2
    return _moved(steps * count, (reads + writes) * count)


def _moved(flops: int, elements: int) -> Cost:
    """Types of lists are not recorded: float32 is usual, two bytes an element are the least."""
    return Cost(float(flops), 4.0 * elements, least_bytes=2.0 * elements)


def foreach(call: Call) -> Cost | None:
    """_foreach_add_(xs, ys or number, ...): elements of xs read, of ys too where ys is a list, one list written."""
    count = call.list_elements(0)
    if count is None:
        return None
    operation = re.sub(r"^aten::_foreach_|_$", "", call.name)
    lists = sum(call.list_elements(index) == count for index in range(_READS.get(operation, 1)))
    writes = 0 if operation in {"norm", "max", "powsum"} else 1
    reads = 0 if operation == "zero" else lists
    return _moved(count * max(1, lists - 1), (reads + writes) * count)


FORMULAS: Mapping[str, Callable[[Call], Cost | None]] = dict.fromkeys(_FUSED, fused)
