"""Operators whose time is memory: each reads its inputs once and writes its output once.

A row says which inputs are read, how large the output is, and operations an element. One operation is one
arithmetic step of a plain implementation, a curve (exp, tanh) counted as one: these figures matter little,
since memory decides. Inputs of copies may be one number expanded to a shape (a gradient of a sum is), which
shapes do not tell: where that is usual, `least_bytes` counts only what is written.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from longpole.cost.model import Call, Cost, broadcast
from longpole.cost.op_classes import classify_op
from longpole.trace import OpClass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ONE_BYTE_RESULT = frozenset(
    [
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "equal",
        "logical_and",
        "logical_or",
        "logical_not",
        "logical_xor",
        "isnan",
        "isinf",
        "isfinite",
        "isin",
    ]
)
_STEPS = {
    "addcmul": 3,
    "addcdiv": 3,
    "lerp": 3,
    "sigmoid_backward": 3,
    "tanh_backward": 3,
    "gelu_backward": 8,
    "gelu": 5,
}

# The first operators that meet the gradient of a sum or mean, which is one number expanded to a shape.
_TAKES_EXPANDED = frozenset({"div", "mul", "neg"})


def _short(name: str) -> str:
    return name.removeprefix("aten::").rstrip("_")


def elementwise(call: Call) -> Cost | None:
    """out[broadcast of all] from every tensor among the inputs; `bucketize` and the like search, `glu` halves: None."""
    short = _short(call.name)
    tensors = [index for index in range(len(call.shapes)) if call.is_tensor(index)]
    shape = broadcast([call.shape(index) or () for index in tensors]) if tensors else None
    if shape is None or short in {"bucketize", "searchsorted", "isin", "glu"}:
        return None
    count = prod(shape)
    each = 1 if short in _ONE_BYTE_RESULT else max(call.bytes_each(index) for index in tensors)
    written = count * each
    read = sum(map(call.bytes_of, tensors))
    certain = written + read - (max(map(call.bytes_of, tensors)) if short in _TAKES_EXPANDED else 0)
    return Cost(float(_STEPS.get(short, 1) * count), float(read + written), least_bytes=float(certain))


def copy(call: Call) -> Cost | None:
    """copy_(to, from): converts where types differ."""
    if call.elements(0) is None or call.elements(1) is None:
        return None
    written = (call.elements(0) or 0) * call.bytes_each(0)
    read = (call.elements(1) or 0) * call.bytes_each(1)
    return Cost(0.0, float(read + written), least_bytes=float(written))


def fill(call: Call) -> Cost | None:
    """zero_, fill_ and random numbers in place: writes only."""
    return Cost(0.0, float(call.bytes_of(0))) if call.is_tensor(0) else None


def generate(call: Call) -> Cost | None:
    """Random numbers in place; how many operations a number takes depends on the generator: not known."""
    return Cost(None, float(call.bytes_of(0))) if call.is_tensor(0) else None


def concatenate(call: Call) -> Cost | None:
    """cat(list), stack(list): reads all, writes all."""
    count = call.list_elements(0)
    return None if count is None else Cost(0.0, 2.0 * count * call.bytes_each(0))


def reduction(call: Call) -> Cost | None:
    """sum, mean, amax, norm over x: one operation an element. The result is no larger than x, and often far less."""
    count = call.elements(0)
    if not call.is_tensor(0) or count is None:
        return None
    # A gradient that is summed may itself be one number expanded; nothing else that is reduced usually is.
    return Cost(float(count), float(call.bytes_of(0)), least_bytes=0.0 if call.name == "aten::sum" else None)


def normalization(call: Call) -> Cost | None:
    """x read, y written; an element takes: mean 1, squared difference 3, normalise 2, scale and shift 2."""
    count = call.elements(0)
    if not call.is_tensor(0) or count is None:
        return None
    parameters = sum(call.bytes_of(index) for index in range(1, len(call.shapes)))
    return Cost(8.0 * count, float(2 * call.bytes_of(0) + parameters), least_bytes=float(2 * call.bytes_of(0)))


def normalization_backward(call: Call) -> Cost | None:
    """dy and x read, dx written; an element takes: the two sums 4, dx 5, dweight and dbias 3. dy may be expanded."""
    count = call.elements(1)
    if not call.is_tensor(1) or count is None:
        return None
    return Cost(12.0 * count, float(call.bytes_of(0) + 2 * call.bytes_of(1)), least_bytes=float(call.bytes_of(1)))


def softmax(call: Call) -> Cost | None:
    """x read, y written; an element takes: largest, difference, exp, sum, quotient."""
    count = call.elements(0)
    return Cost(5.0 * count, 2.0 * call.bytes_of(0)) if call.is_tensor(0) and count is not None else None


def softmax_backward(call: Call) -> Cost | None:
    """dy and y read, dx written; an element takes: product, sum, difference, product. dy may be nearly empty."""
    count = call.elements(1)
    if not call.is_tensor(1) or count is None:
        return None
    return Cost(4.0 * count, float(call.bytes_of(0) + 2 * call.bytes_of(1)), least_bytes=2.0 * call.bytes_of(1))


def nll_loss(call: Call) -> Cost | None:
    """One score and one label read a row of scores[rows, classes], labels[rows]."""
    rows = call.elements(1)
    if not call.is_tensor(1) or rows is None or not call.is_tensor(0):
        return None
    return Cost(2.0 * rows, float(rows * (call.bytes_each(0) + call.bytes_each(1))))


def nll_loss_backward(call: Call) -> Cost | None:
    """(dy, scores[rows, classes], labels[rows], ...): a gradient as large as scores is cleared, a number a row set."""
    rows = call.elements(2)
    if not call.is_tensor(1) or rows is None or not call.is_tensor(2):
        return None
    return Cost(float(rows), float(call.bytes_of(1) + call.bytes_of(2)), least_bytes=float(call.bytes_of(2)))


def pooling(call: Call) -> Cost | None:
    """max_pool2d_with_indices(x, kernel, stride, padding, dilation, ceil); avg_pool2d begins likewise."""
    x = call.shape(0)
    dims = 3 if "3d" in call.name else 2
    if x is None or len(x) < dims + 1:
        return None
    kernel, padding = call.numbers(1, dims), call.numbers(3, dims)
    stride = call.numbers(2, dims) or kernel
    rounds_up = call.value(5 if "max" in call.name else 4) is True
    if kernel is None or padding is None or stride is None or min(stride) < 1 or rounds_up:
        return None
    sizes = list(zip(x[-dims:], kernel, stride, padding, strict=True))
    if any(k < 1 or p < 0 or size + 2 * p < k for size, k, _, p in sizes):
        return None
    positions = prod(x[:-dims]) * prod((size + 2 * p - k) // s + 1 for size, k, s, p in sizes)
    written = positions * (call.bytes_each(0) + (8 if "max" in call.name else 0))
    # Odd ends, and what lies between windows, are not read.
    read = prod(x[:-dims]) * prod(min(size, min(s, k) * ((size + 2 * p - k) // s + 1) - p) for size, k, s, p in sizes)
    least = written + max(0, read) * call.bytes_each(0)
    return Cost(float(positions * prod(kernel)), float(call.bytes_of(0) + written), 0.0, float(least))


def pooling_backward(call: Call) -> Cost | None:
    """(dy, x, ...): dy (and for the largest, its index) read, dx written."""
    if not call.is_tensor(0) or not call.is_tensor(1):
        return None
    indices = 8 * (call.elements(0) or 0) if "max" in call.name else 0
    written = (call.elements(1) or 0) * call.bytes_each(1)
    return Cost(
        float(call.elements(0) or 0), float(call.bytes_of(0) + indices + written), 0.0, least_bytes=float(indices)
    )


def adaptive_pooling(call: Call) -> Cost | None:
    """_adaptive_avg_pool2d(x, output_size): every input lies in at least one window."""
    if not call.is_tensor(0):
        return None
    return Cost(float(call.elements(0) or 0), float(call.bytes_of(0)))


def index_select(call: Call) -> Cost | None:
    """(table[rows, ...], dim, index[n]): n rows read and written. Rows asked for twice may be in a cache."""
    table, dim, count = call.shape(0), call.value(1), call.elements(2)
    if not table or count is None or not call.is_tensor(2):
        return None
    axis = dim if isinstance(dim, int) else 0
    if not -len(table) <= axis < len(table) or table[axis] == 0:
        return None
    written = prod(table) // table[axis] * count * call.bytes_each(0)
    indices = call.bytes_of(2) if call.dtypes else 8 * count
    return Cost(0.0, float(2 * written + indices), least_bytes=float(written + indices))


def embedding_backward(call: Call) -> Cost | None:
    """embedding_dense_backward(dy[..., dim], index[...], rows, ...): dy added into a table that is cleared first."""
    dy, rows = call.shape(0), call.value(2)
    if not dy or not call.is_tensor(1):
        return None
    table = rows * dy[-1] * call.bytes_each(0) if isinstance(rows, int) else None
    moved = None if table is None else float(call.bytes_of(0) + 8 * (call.elements(1) or 0) + table)
    return Cost(float(prod(dy)), moved, least_bytes=0.0 if table is None else float(table))


def dropout(call: Call) -> Cost | None:
    """native_dropout(x): y and a mask of one byte an element."""
    count = call.elements(0) if call.is_tensor(0) else None
    return None if count is None else Cost(None, float(2 * call.bytes_of(0) + count))


FORMULAS: Mapping[str, Callable[[Call], Cost | None]] = {
    "aten::copy_": copy,
    **dict.fromkeys(("aten::zero_", "aten::fill_"), fill),
    **dict.fromkeys(("aten::bernoulli_", "aten::uniform_", "aten::normal_", "aten::random_"), generate),
    **dict.fromkeys(("aten::cat", "aten::_cat", "aten::stack"), concatenate),
    **dict.fromkeys(
        ("aten::sum", "aten::mean", "aten::amax", "aten::amin", "aten::linalg_vector_norm", "aten::norm", "aten::prod"),
        reduction,
    ),
    **dict.fromkeys(
        (
            "aten::native_layer_norm", "aten::native_batch_norm", "aten::native_group_norm", "aten::cudnn_batch_norm",
            "aten::miopen_batch_norm", "aten::_native_batch_norm_legit", "aten::_batch_norm_with_update",
            "aten::_fused_rms_norm",
        ),
        normalization,
    ),
    **dict.fromkeys(
        (
            "aten::native_layer_norm_backward", "aten::native_batch_norm_backward", "aten::batch_norm_backward",
            "aten::native_group_norm_backward", "aten::_fused_rms_norm_backward",
        ),
        normalization_backward,
    ),
    **dict.fromkeys(("aten::_softmax", "aten::_log_softmax", "aten::_safe_softmax"), softmax),
    **dict.fromkeys(("aten::_softmax_backward_data", "aten::_log_softmax_backward_data"), softmax_backward),
    **dict.fromkeys(("aten::nll_loss_forward", "aten::nll_loss2d_forward"), nll_loss),
    **dict.fromkeys(("aten::nll_loss_backward", "aten::nll_loss2d_backward"), nll_loss_backward),
    **dict.fromkeys(
        (
            "aten::max_pool2d_with_indices", "aten::max_pool3d_with_indices", "aten::avg_pool2d", "aten::avg_pool3d",
        ),
        pooling,
    ),
    **dict.fromkeys(
        (
            "aten::max_pool2d_with_indices_backward", "aten::max_pool3d_with_indices_backward",
            "aten::avg_pool2d_backward", "aten::avg_pool3d_backward", "aten::_adaptive_avg_pool2d_backward",
            "aten::_adaptive_avg_pool3d_backward",
        ),
        pooling_backward,
    ),
    **dict.fromkeys(("aten::_adaptive_avg_pool2d", "aten::_adaptive_avg_pool3d"), adaptive_pooling),
    "aten::index_select": index_select,
    "aten::embedding_dense_backward": embedding_backward,
    "aten::native_dropout": dropout,
}  # fmt: skip


def of_class(call: Call) -> Cost | None:
    """For operators without a row of their own: what is elementwise by name is so by cost."""
    losses = {"mse_loss_backward", "huber_loss_backward", "smooth_l1_loss_backward", "binary_cross_entropy_backward"}
    if classify_op(call.name) is OpClass.ELEMENTWISE or _short(call.name) in losses:
        return elementwise(call)
    return None
