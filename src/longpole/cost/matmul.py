"""Matrix products. Shapes above each term; a multiply-add is two operations."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from longpole.cost.model import Call, Cost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _product(call: Call, left: int, right: int, batch_dims: int, added: int | None = None) -> Cost | None:
    """out[..., m, n] = left[..., m, k] @ right[..., k, n], plus an input of its own shape where `added` names one."""
    a, b = call.shape(left), call.shape(right)
    if a is None or b is None or len(a) != 2 + batch_dims or len(b) != 2 + batch_dims or a[-1] != b[-2]:
        return None
    batch, m, k, n = prod(a[:-2]), a[-2], a[-1], b[-1]
    written = batch * m * n * call.bytes_each(left)
    read = call.bytes_of(left) + call.bytes_of(right) + (0 if added is None else call.bytes_of(added))
    return Cost(2.0 * batch * m * n * k, float(read + written))


def mm(call: Call) -> Cost | None:
    return _product(call, 0, 1, 0)


def addmm(call: Call) -> Cost | None:
    return _product(call, 1, 2, 0, added=0)


def bmm(call: Call) -> Cost | None:
    return _product(call, 0, 1, 1)


def baddbmm(call: Call) -> Cost | None:
    return _product(call, 1, 2, 1, added=0)


def int_mm(call: Call) -> Cost | None:
    """Eight-bit inputs, an output of four bytes."""
    cost, a, b = _product(call, 0, 1, 0), call.shape(0), call.shape(1)
    if cost is None or a is None or b is None:
        return None
    return Cost(cost.flops, float(a[0] * a[1] + b[0] * b[1] + 4 * a[0] * b[1]))


def _vector(call: Call, matrix: int, vector: int) -> Cost | None:
    """out[m] = matrix[m, k] @ vector[k]."""
    a = call.shape(matrix)
    if a is None or len(a) != 2 or call.shape(vector) != (a[1],):
        return None
    each = call.bytes_each(matrix)
    return Cost(2.0 * a[0] * a[1], float(each * (a[0] * a[1] + a[0] + a[1])))


def mv(call: Call) -> Cost | None:
    return _vector(call, 0, 1)


def addmv(call: Call) -> Cost | None:
    return _vector(call, 1, 2)


def dot(call: Call) -> Cost | None:
    """One number from left[n] and right[n]."""
    count = call.elements(0)
    if not call.is_tensor(0) or count is None or call.elements(1) != count:
        return None
    return Cost(2.0 * count, float(call.bytes_of(0) + call.bytes_of(1)))


def linear(call: Call) -> Cost | None:
    """out[..., n] = x[..., k] @ weight[n, k].T, as fused by oneDNN."""
    x, weight = call.shape(0), call.shape(1)
    if not x or weight is None or len(weight) != 2 or x[-1] != weight[1]:
        return None
    written = prod(x[:-1]) * weight[0] * call.bytes_each(0)
    return Cost(2.0 * prod(x[:-1]) * weight[0] * weight[1], float(call.bytes_of(0) + call.bytes_of(1) + written))


def grouped_mm(call: Call) -> Cost | None:
    """Rows [tokens, k] shared out over weights [groups, k, n]: every row meets one of them."""
    a, b = call.shape(0), call.shape(1)
    if a is None or b is None or len(a) != 2 or len(b) != 3 or a[1] != b[1]:
        return None
    read_and_written = call.bytes_of(0) + call.bytes_of(1) + a[0] * b[2] * call.bytes_each(0)
    # A weight that no row was sent to need not be read.
    return Cost(
        2.0 * a[0] * a[1] * b[2], float(read_and_written), least_bytes=float(read_and_written - call.bytes_of(1))
    )


FORMULAS: Mapping[str, Callable[[Call], Cost | None]] = {
    "aten::mm": mm,
    "aten::_scaled_mm": mm,
    "aten::addmm": addmm,
    "aten::addmm_": addmm,
    "aten::_addmm_activation": addmm,
    "aten::bmm": bmm,
    "aten::baddbmm": baddbmm,
    "aten::baddbmm_": baddbmm,
    "aten::_int_mm": int_mm,
    "aten::mv": mv,
    "aten::addmv": addmv,
    "aten::addmv_": addmv,
    "aten::dot": dot,
    "aten::vdot": dot,
    "aten::mkldnn_linear": linear,
    "aten::_grouped_mm": grouped_mm,
    "mkldnn::_linear_pointwise": linear,
}
