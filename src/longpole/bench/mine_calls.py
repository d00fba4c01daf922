"""What makes a call of an operator from the shapes that a study recorded: one row an operator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Work = Callable[[], Any]
    Shape = tuple[int, ...]

_MOST_ELEMENTS = 2**30
_aten: Any = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Call:
    """How an operator is called alone."""

    tensors: int  # of the recorded shapes, how many are used
    make: Callable[..., Work]  # of those tensors; takes `hint` by name where `hint` is set
    hint: Callable[[list[Shape]], tuple[Any, ...]] | None = None  # the key of what another operator's shapes tell
    index: tuple[int, int, int] | None = None  # (tensor of whole numbers, the tensor they index, along which axis)
    ones: tuple[int, ...] = ()  # tensors of ones: repeated products of others would run to zero or beyond all numbers
    positive: bool = False
    random: bool = False  # nothing to compare with
    remark: str = ""


def shapes_of(text: str | None) -> list[Shape] | None:
    """Shapes as a study writes them; None where it has none. ValueError where one is no shape."""
    try:
        found = json.loads(text or "null")
    except ValueError:
        return None
    if not isinstance(found, list):
        return None
    for shape in found:
        if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
            raise ValueError(f"{str(shape)[:60]} is no shape")
    return [tuple(shape) for shape in found]


def hints_of(ops: Iterable[tuple[str, str | None]]) -> dict[tuple[Any, ...], Any]:
    """What shapes of one operator tell about another: strides of convolutions, windows of pools, rows of tables."""
    found: dict[tuple[Any, ...], Any] = {}
    for name, text in ops:
        try:
            shapes = shapes_of(text) or []
        except ValueError:
            continue
        if name == "aten::convolution_backward" and len(shapes) >= 3:
            found["conv", shapes[1], shapes[2]] = shapes[0]
        elif name == "aten::max_pool2d_with_indices_backward" and len(shapes) >= 2:
            found["pool", shapes[1]] = shapes[0]
        elif name == "aten::embedding" and len(shapes) >= 2 and shapes[0]:
            found["table", shapes[1], shapes[0][-1]] = shapes[0][0]
    return found


def prepare(
    name: str, text: str | None, hints: Mapping[tuple[Any, ...], Any]
) -> tuple[list[torch.Tensor], Callable[..., Work], Call]:
    """Random inputs, what makes the work of them, and the row; ValueError says why an operation cannot run alone."""
    call = CALLS.get(name)
    if call is None:
        raise ValueError(f"{name} needs more than shapes to run alone")
    shapes = shapes_of(text)
    if shapes is None or len(shapes) < call.tensors:
        raise ValueError("the study has no shapes for it; record them with longpole run")
    options: dict[str, Any] = {}
    if call.hint is not None:
        options["hint"] = hints.get(call.hint(shapes))
        if options["hint"] is None:
            raise ValueError(f"{name} needs more than shapes to run alone, and nothing else in the study tells")
    if any(torch.Size(shape).numel() > _MOST_ELEMENTS for shape in shapes[: call.tensors]):
        raise ValueError("too large to run alone")
    inputs = [_input(call, shapes, position, options.get("hint")) for position in range(call.tensors)]
    return inputs, lambda *tensors: call.make(*tensors, **options), call


def _input(call: Call, shapes: list[Shape], position: int, hint: Any) -> torch.Tensor:
    shape = shapes[position]
    if call.index is not None and call.index[0] == position:
        _, indexed, axis = call.index
        if len(shapes[indexed]) <= axis:
            raise ValueError("there is nothing of that shape to index")
        return torch.randint(0, max(1, shapes[indexed][axis] if hint is None else hint), shape)
    if position in call.ones or (position > 0 and not shape):
        return torch.ones(shape)
    return torch.rand(shape) + 0.5 if call.positive else torch.randn(shape)


def _direct(function: Callable[..., Any]) -> Callable[..., Work]:
    return lambda *inputs: lambda: function(*inputs)


def _attention(*qkv: torch.Tensor) -> Work:
    return lambda: _aten._scaled_dot_product_flash_attention_for_cpu(*qkv)[0]


def _attention_backward(dy: torch.Tensor, *qkv: torch.Tensor) -> Work:
    out, sums = _aten._scaled_dot_product_flash_attention_for_cpu(*qkv)
    return lambda: _aten._scaled_dot_product_flash_attention_for_cpu_backward(dy, *qkv, out, sums, 0.0, False)[0]


def _layer_norm_backward(dy: torch.Tensor, x: torch.Tensor) -> Work:
    shape, weight, bias = x.shape[-1:], torch.ones_like(x[0].flatten()[: x.shape[-1]]), None
    _, mean, rstd = torch.native_layer_norm(x, shape, weight, bias, 1e-5)
    return lambda: _aten.native_layer_norm_backward(dy, x, shape, mean, rstd, weight, bias, (True, True, False))[0]


def _batch_norm(*args: torch.Tensor) -> Work:
    return lambda: _aten.native_batch_norm(*args, True, 0.1, 1e-5)[0]


def _batch_norm_backward(dy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> Work:
    running = torch.zeros_like(weight), torch.ones_like(weight)
    _, mean, rstd = _aten.native_batch_norm(x, weight, torch.zeros_like(weight), *running, True, 0.1, 1e-5)
    rest = (*running, mean, rstd, True, 1e-5, (True, True, True))
    return lambda: _aten.native_batch_norm_backward(dy, x, weight, *rest)[0]


def _convolution(x: torch.Tensor, weight: torch.Tensor, *, hint: Shape) -> Work:
    stride, padding, groups = _geometry(x, weight, hint)
    rest = ([1] * len(stride), False, [0] * len(stride), groups)
    return lambda: _aten.convolution(x, weight, None, stride, padding, *rest)


def _convolution_backward(dy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> Work:
    stride, padding, groups = _geometry(x, weight, tuple(dy.shape))
    rest = ([1] * len(stride), False, [0] * len(stride), groups, (True, True, False))
    return lambda: _aten.convolution_backward(dy, x, weight, None, stride, padding, *rest)[1]


def _geometry(x: torch.Tensor, weight: torch.Tensor, y: Shape) -> tuple[list[int], list[int], int]:
    """The smallest stride and padding that give these shapes, and the groups."""
    fits = [_fit(*sizes) for sizes in zip(x.shape[2:], y[2:], weight.shape[2:], strict=True)]
    if not fits or not weight.shape[1] or x.shape[1] % weight.shape[1]:
        raise ValueError("these are no shapes of a convolution")
    return [fit[0] for fit in fits], [fit[1] for fit in fits], x.shape[1] // weight.shape[1]


def _fit(size: int, positions: int, kernel: int) -> tuple[int, int]:
    for stride in range(1, min(size, 64) + 1):
        for padding in range(min(kernel, 64)):
            if (size + 2 * padding - kernel) // stride + 1 == positions:
                return stride, padding
    raise ValueError("no stride and padding give these shapes")


def _pool(x: torch.Tensor, *, hint: Shape) -> Work:
    window = _window(x, hint)
    return lambda: _aten.max_pool2d_with_indices(x, window, window)[0]


def _pool_backward(dy: torch.Tensor, x: torch.Tensor) -> Work:
    window = _window(x, tuple(dy.shape))
    _, where = _aten.max_pool2d_with_indices(x, window, window)
    return lambda: _aten.max_pool2d_with_indices_backward(dy, x, window, window, (0, 0), (1, 1), False, where)


def _window(x: torch.Tensor, y: Shape) -> list[int]:
    if x.dim() != len(y) or not all(y) or any(of % to for of, to in zip(x.shape[-2:], y[-2:], strict=True)):
        raise ValueError("no window without overlap gives these shapes")
    return [of // to for of, to in zip(x.shape[-2:], y[-2:], strict=True)]


def _table_gradient(dy: torch.Tensor, where: torch.Tensor, *, hint: int) -> Work:
    return lambda: _aten.embedding_dense_backward(dy, where, hint, -1, False)


def _loss_backward(dy: torch.Tensor, x: torch.Tensor, target: torch.Tensor) -> Work:
    total = torch.tensor(float(len(target)), dtype=x.dtype)
    return lambda: _aten.nll_loss_backward(dy, x, target, None, 1, -100, total)


_NO_MASK = "without a mask: shapes do not say whether there was one"
_NO_OVERLAP = "a window without overlap"
_in_place: Any = torch.Tensor

CALLS: Mapping[str, Call] = {
    "aten::mm": Call(2, _direct(torch.mm)),
    "aten::addmm": Call(3, _direct(torch.addmm)),
    "aten::bmm": Call(2, _direct(torch.bmm)),
    "aten::baddbmm": Call(3, _direct(torch.baddbmm)),
    "aten::_scaled_dot_product_flash_attention_for_cpu": Call(3, _attention, remark=_NO_MASK),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": Call(4, _attention_backward, remark=_NO_MASK),
    "aten::convolution": Call(2, _convolution, lambda shapes: ("conv", *shapes[:2])),
    "aten::_convolution": Call(2, _convolution, lambda shapes: ("conv", *shapes[:2])),
    "aten::mkldnn_convolution": Call(2, _convolution, lambda shapes: ("conv", *shapes[:2])),
    "aten::convolution_backward": Call(3, _convolution_backward),
    "aten::max_pool2d_with_indices": Call(1, _pool, lambda shapes: ("pool", shapes[0]), remark=_NO_OVERLAP),
    "aten::max_pool2d_with_indices_backward": Call(2, _pool_backward, remark=_NO_OVERLAP),
    "aten::native_batch_norm": Call(5, _batch_norm, ones=(4,)),
    "aten::native_batch_norm_backward": Call(3, _batch_norm_backward),
    "aten::native_layer_norm": Call(1, _direct(lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:]))),
    "aten::native_layer_norm_backward": Call(2, _layer_norm_backward),
    "aten::embedding": Call(2, _direct(_aten.embedding), index=(1, 0, 0)),
    "aten::embedding_dense_backward": Call(
        2, _table_gradient, lambda shapes: ("table", shapes[1], shapes[0][-1] if shapes[0] else 0), index=(1, 0, 0)
    ),
    "aten::nll_loss_forward": Call(
        2, _direct(lambda x, target: _aten.nll_loss_forward(x, target, None, 1, -100)[0]), index=(1, 0, 1)
    ),
    "aten::nll_loss_backward": Call(3, _loss_backward, index=(2, 1, 1)),
    "aten::_softmax": Call(1, _direct(lambda x: torch.softmax(x, -1))),
    "aten::_softmax_backward_data": Call(2, _direct(lambda dy, y: _aten._softmax_backward_data(dy, y, -1, y.dtype))),
    "aten::_log_softmax": Call(1, _direct(lambda x: torch.log_softmax(x, -1))),
    "aten::_log_softmax_backward_data": Call(
        2, _direct(lambda dy, y: _aten._log_softmax_backward_data(dy, y, -1, y.dtype))
    ),
    "aten::add": Call(2, _direct(torch.add)),
    "aten::add_": Call(2, _direct(_in_place.add_)),
    "aten::sub": Call(2, _direct(torch.sub)),
    "aten::mul": Call(2, _direct(torch.mul)),
    "aten::mul_": Call(2, _direct(_in_place.mul_), ones=(1,)),
    "aten::div": Call(2, _direct(torch.div), positive=True),
    "aten::div_": Call(2, _direct(_in_place.div_), ones=(1,)),
    "aten::lerp_": Call(2, _direct(lambda x, y: x.lerp_(y, 0.1))),
    "aten::addcmul_": Call(3, _direct(lambda x, y, z: x.addcmul_(y, z, value=1e-3))),
    "aten::addcdiv_": Call(3, _direct(lambda x, y, z: x.addcdiv_(y, z, value=-1e-3)), positive=True),
    "aten::sqrt": Call(1, _direct(torch.sqrt), positive=True),
    "aten::rsqrt": Call(1, _direct(torch.rsqrt), positive=True),
    "aten::reciprocal": Call(1, _direct(torch.reciprocal), positive=True),
    "aten::exp": Call(1, _direct(torch.exp)),
    "aten::neg": Call(1, _direct(torch.neg)),
    "aten::relu": Call(1, _direct(torch.relu)),
    "aten::relu_": Call(1, _direct(torch.relu_)),
    "aten::clamp_min": Call(1, _direct(torch.relu)),
    "aten::clamp_min_": Call(1, _direct(torch.relu_)),
    "aten::threshold_backward": Call(2, _direct(lambda dy, x: _aten.threshold_backward(dy, x, 0))),
    "aten::gelu": Call(1, _direct(torch.nn.functional.gelu)),
    "aten::gelu_backward": Call(2, _direct(_aten.gelu_backward)),
    "aten::silu": Call(1, _direct(torch.nn.functional.silu)),
    "aten::silu_backward": Call(2, _direct(_aten.silu_backward)),
    "aten::tanh": Call(1, _direct(torch.tanh)),
    "aten::tanh_backward": Call(2, _direct(_aten.tanh_backward)),
    "aten::sigmoid": Call(1, _direct(torch.sigmoid)),
    "aten::sigmoid_backward": Call(2, _direct(_aten.sigmoid_backward)),
    "aten::bernoulli_": Call(1, _direct(lambda x: x.bernoulli_(0.5)), random=True),
    "aten::native_dropout": Call(1, _direct(lambda x: torch.native_dropout(x, 0.1, True)[0]), random=True),
    "aten::sum": Call(1, _direct(torch.sum), remark="over all axes: shapes do not say which"),
    "aten::mean": Call(1, _direct(torch.mean), remark="over all axes: shapes do not say which"),
    "aten::copy_": Call(2, _direct(_in_place.copy_)),
    "aten::clone": Call(1, _direct(torch.clone)),
    "aten::fill_": Call(1, _direct(lambda x: x.fill_(1.0))),
    "aten::zero_": Call(1, _direct(torch.zero_)),
}
