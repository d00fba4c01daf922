"""Convolutions of any number of dims: groups, dilation, transposed; forward and each gradient.

With input x[N, C, *in], weight w[K, C/groups, *kernel] and output y[N, K, *out], every output position meets
the whole weight once: forward, input gradient and weight gradient are each 2 * N * prod(out) * w elements. A
transposed convolution (w[C, K/groups, *kernel]) is the input gradient of one whose output is its input, so
prod(in) stands in place of prod(out). Taps that fall on padding need no work: `least_flops` leaves them out.
Where strides and paddings were not recorded, but the shape of the output is known, the fewest taps of all strides and
paddings that make such an output count, without dilation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

from longpole.cost.model import Call, Cost
from longpole.trace import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


# Traces of strangers may claim any size: what would take long to count counts as nothing that must be done.
_LARGEST_KERNEL = 4096
_MOST_PLACES = 200_000
_MOST_GUESSED = 64


@dataclass(frozen=True, slots=True)
class Geometry:
    """One convolution. `x`, `weight`, `y` are whole shapes; the rest is one number a spatial dim."""

    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    stride: tuple[int, ...] | None
    padding: tuple[int, ...] | None
    dilation: tuple[int, ...] | None
    transposed: bool = False

    @property
    def flops(self) -> float:
        """Of forward, and of each gradient."""
        positions = self.x[2:] if self.transposed else self.y[2:]
        return 2.0 * self.x[0] * prod(positions) * prod(self.weight)

    @property
    def least_flops(self) -> float | None:
        """Of the taps that meet the input; None where stride or padding is not known."""
        if self.stride is None or self.padding is None or self.dilation is None:
            return self._fewest_flops
        small, large = (self.x, self.y) if self.transposed else (self.y, self.x)
        taps = 1
        for axis, kernel in enumerate(self.weight[2:]):
            taps *= _taps(
                small[2 + axis], large[2 + axis], kernel, self.stride[axis], self.padding[axis], self.dilation[axis]
            )
        return 2.0 * self.x[0] * taps * self.weight[0] * self.weight[1]

    @property
    def _fewest_flops(self) -> float | None:
        """The same where stride and padding are not known; None where none fit."""
        small, large = (self.x, self.y) if self.transposed else (self.y, self.x)
        axes = zip(small[2:], large[2:], self.weight[2:], strict=True)
        taps = [_fewest_taps(positions, size, kernel) for positions, size, kernel in axes]
        known = [count for count in taps if count is not None]
        return 2.0 * self.x[0] * prod(known) * prod(self.weight[:2]) if len(known) == len(taps) else None


@lru_cache(maxsize=4096)
def _fewest_taps(positions: int, size: int, kernel: int) -> int | None:
    """`_taps` of the stride and padding, of those that make `positions` of `size`, that has the fewest.

    What hangs over the borders is a sum of convex functions of the stride, so its most is at the least or largest.
    """
    if positions < 1 or not 0 < kernel <= _MOST_GUESSED:
        return 0
    found: list[int] = []
    for padding in range(kernel):
        room = size + 2 * padding - kernel
        least, largest = room // positions + 1, room // (positions - 1) if positions > 1 else room + 1
        strides = (least, largest) if 0 < least <= largest and room >= 0 else ()
        found += [_taps(positions, size, kernel, stride, padding, 1) for stride in strides]
    return min(found, default=None)


def _taps(positions: int, size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Pairs (position, tap) of one dim that fall inside: 0 <= position * stride + tap * dilation - padding < size."""
    found = 0
    for tap in range(kernel if kernel <= _LARGEST_KERNEL else 0):
        offset = padding - tap * dilation
        first = max(0, -(-offset // stride))
        last = min(positions - 1, (size - 1 + offset) // stride)
        found += max(0, last - first + 1)
    return found


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Positions of one dim of a forward convolution (torch.nn.Conv2d, "Shape")."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@dataclass(frozen=True, slots=True)
class _Where:
    """At which inputs of an operator the geometry is recorded; -1 where it has no such input."""

    stride: int
    padding: int
    dilation: int
    output_padding: int = -1
    transposed: bool | int = False  # or the input that says so
    groups: int = -1


@lru_cache(maxsize=4096)
def _touched(positions: int, size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many of a dim's inputs any tap meets: strides beyond the kernel, and odd ends, leave some unread."""
    if positions * kernel > _MOST_PLACES:
        return 0
    places = {p * stride + t * dilation - padding for p in range(positions) for t in range(kernel)}
    return sum(0 <= place < size for place in places)


def _least_input(geometry: Geometry) -> float:
    """The part of the large side's elements that must be read; 0 where that is not known."""
    if geometry.stride is None or geometry.padding is None or geometry.dilation is None or geometry.transposed:
        return 0.0 if not geometry.transposed else float(prod(geometry.x))
    found = prod(geometry.x[:2])
    for axis, kernel in enumerate(geometry.weight[2:]):
        sizes = (geometry.y[2 + axis], geometry.x[2 + axis], kernel)
        found *= _touched(*sizes, geometry.stride[axis], geometry.padding[axis], geometry.dilation[axis])
    return float(found)


def _forward(call: Call, where: _Where) -> Cost | None:
    geometry = _geometry(call, where)
    if geometry is None:
        return None
    others = call.bytes_of(1) + prod(geometry.y) * call.bytes_each(0)
    least = others + _least_input(geometry) * call.bytes_each(0)
    return Cost(geometry.flops, float(call.bytes_of(0) + others), geometry.least_flops, float(least))


def _geometry(call: Call, where: _Where) -> Geometry | None:
    x, weight = call.shape(0), call.shape(1)
    if x is None or weight is None or len(x) != len(weight) or len(x) < 3:
        return None
    dims = len(x) - 2
    stride, padding = call.numbers(where.stride, dims), call.numbers(where.padding, dims)
    dilation = call.numbers(where.dilation, dims) if where.dilation >= 0 else (1,) * dims
    if stride is None or padding is None or dilation is None or not _possible(stride, padding, dilation):
        return _of_output(x, weight, call.output)
    transposed = where.transposed if isinstance(where.transposed, bool) else call.value(where.transposed)
    if not transposed:
        spatial = tuple(map(output_size, x[2:], weight[2:], stride, padding, dilation))
        return None if min(spatial) < 0 else Geometry(x, weight, (x[0], weight[0], *spatial), stride, padding, dilation)
    extra, groups = call.numbers(where.output_padding, dims), call.value(where.groups)
    if extra is None or not isinstance(groups, int):
        return None
    sizes = zip(x[2:], weight[2:], stride, padding, dilation, extra, strict=True)
    spatial = tuple((i - 1) * s - 2 * p + d * (k - 1) + e + 1 for i, k, s, p, d, e in sizes)
    if min(spatial) < 0 or groups < 1:
        return None
    return Geometry(x, weight, (x[0], weight[1] * groups, *spatial), stride, padding, dilation, transposed=True)


def _of_output(x: tuple[int, ...], weight: tuple[int, ...], y: tuple[int, ...] | None) -> Geometry | None:
    """What is known where only shapes are; None where they are no forward convolution's."""
    if y is None or len(y) != len(x) or y[0] != x[0] or y[1] != weight[0]:
        return None
    found = Geometry(x, weight, y, None, None, None)
    return None if found.least_flops is None else found


def _possible(stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...]) -> bool:
    return min(stride) > 0 and min(padding) >= 0 and min(dilation) > 0


def backward(call: Call, role: Role | None = None) -> Cost | None:
    """convolution_backward(dy, x, weight, bias_sizes, stride, padding, dilation, transposed, output_padding,
    groups, output_mask): dgrad reads dy and weight and writes dx, wgrad reads dy and x and writes dweight.
    """
    dy, x, weight = call.shape(0), call.shape(1), call.shape(2)
    if dy is None or x is None or weight is None or not len(dy) == len(x) == len(weight) >= 3:
        return None
    dims = len(x) - 2
    flag = call.value(7)
    transposed = flag if isinstance(flag, bool) else weight[0] != dy[1]
    stride, padding, dilation = (call.numbers(index, dims) for index in (4, 5, 6))
    if stride is None or padding is None or dilation is None or not _possible(stride, padding, dilation):
        stride = padding = dilation = None
    geometry = Geometry(x, weight, dy, stride, padding, dilation, transposed)
    least = call.bytes_of(0) + call.bytes_of(2) + _least_input(geometry) * call.bytes_each(1)
    one = Cost(geometry.flops, float(sum(map(call.bytes_of, range(3)))), geometry.least_flops, float(least))
    mask = call.value(10)
    if role in (Role.INPUT_GRAD, Role.WEIGHT_GRAD):
        return one
    if isinstance(mask, list) and len(mask) >= 2:
        wanted = sum(map(bool, mask[:2]))
        return Cost(0.0, float(call.bytes_of(0))) if wanted == 0 else one if wanted == 1 else one + one
    # Which gradients were asked for is not recorded: both are usual, one is sure.
    both = one + one
    return Cost(both.flops, both.bytes_moved, one.must_compute, one.must_move)


def _one_gradient(call: Call) -> Cost | None:
    """Older operators that make one gradient: (size, dy[N, K, *out], weight or x, ...); `size` is no tensor."""
    dy, other, size = call.shape(1), call.shape(2), call.value(0) or call.output
    if dy is None or other is None or not isinstance(size, (list, tuple)) or len(dy) < 3:
        return None
    weight = size if "weight" in call.name else other
    moved = call.bytes_of(1) + call.bytes_of(2) + prod(size) * call.bytes_each(1)
    return Cost(2.0 * dy[0] * prod(dy[2:]) * prod(weight), float(moved), least_flops=0.0)


# Order of arguments: aten/src/ATen/native/native_functions.yaml of torch 2.13.
_FORWARD: Mapping[str, _Where] = {
    "aten::mkldnn_convolution": _Where(stride=4, padding=3, dilation=5),
    "aten::miopen_convolution": _Where(stride=4, padding=3, dilation=5),
    "aten::miopen_depthwise_convolution": _Where(stride=4, padding=3, dilation=5),
    "aten::cudnn_convolution": _Where(stride=3, padding=2, dilation=4),
    "aten::cudnn_convolution_relu": _Where(stride=3, padding=4, dilation=5),
    "aten::cudnn_convolution_transpose": _Where(4, 2, 5, output_padding=3, transposed=True, groups=6),
    "aten::_slow_conv2d_forward": _Where(stride=4, padding=5, dilation=-1),
    "aten::slow_conv3d_forward": _Where(stride=4, padding=5, dilation=-1),
    "aten::slow_conv_dilated2d": _Where(stride=4, padding=5, dilation=6),
    "aten::slow_conv_dilated3d": _Where(stride=4, padding=5, dilation=6),
    "aten::_conv_depthwise2d": _Where(stride=4, padding=5, dilation=6),
    "aten::conv_depthwise3d": _Where(stride=4, padding=5, dilation=6),
    # The CPU's transposed convolution has no operator of its own beneath this one.
    "aten::_convolution": _Where(3, 4, 5, output_padding=7, transposed=6, groups=8),
    "mkldnn::_convolution_pointwise": _Where(stride=4, padding=3, dilation=5),
}


def _forward_formula(where: _Where) -> Callable[[Call], Cost | None]:
    return lambda call: _forward(call, where)


FORMULAS: Mapping[str, Callable[[Call], Cost | None]] = {
    **{name: _forward_formula(where) for name, where in _FORWARD.items()},
    "aten::convolution_backward": backward,
    **dict.fromkeys(
        (
            "aten::cudnn_convolution_backward_input",
            "aten::cudnn_convolution_backward_weight",
            "aten::miopen_convolution_backward_input",
            "aten::miopen_convolution_backward_weight",
            "aten::mkldnn_convolution_backward_input",
            "aten::mkldnn_convolution_backward_weights",
        ),
        _one_gradient,
    ),
}

FORWARD_OPS = frozenset(_FORWARD)
ONE_GRADIENT_OPS = frozenset(name for name, formula in FORMULAS.items() if formula is _one_gradient)

BY_ROLE: Mapping[str, Callable[[Call, Role | None], Cost | None]] = {"aten::convolution_backward": backward}
