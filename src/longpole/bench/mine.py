"""`--suite mine=STUDY.json`: the operations of one's own network, alone, beside their time in place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from longpole.bench.operations.piece import relative_error
from longpole.bench.results import Row
from longpole.bench.timing import Protocol, measure
from longpole.cost import cost_of
from longpole.cost.op_classes import classify_op
from longpole.errors import LongpoleError
from longpole.machine import bound_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from longpole.machine import Ceilings

_MOST_ELEMENTS = 2**30


class StudyOp(msgspec.Struct):
    """What is needed of one operation of a study; its other fields are not looked at."""

    op: str
    shapes: str | None = None
    ms: float | None = None
    calls: float | None = None


class StudyOps(msgspec.Struct):
    """What is needed of a study."""

    schema: str
    ops: list[StudyOp] = []


def read_ops(path: Path) -> list[StudyOp]:
    """The operations of a study; LongpoleError where the file is no study."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=StudyOps)
    except OSError as error:
        raise LongpoleError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise LongpoleError(f"{path} is no longpole study: {error}") from error
    if found.schema != "longpole.study":
        raise LongpoleError(f"{path} is a {found.schema}, not a longpole study; make one with longpole run --json")
    return found.ops


_aten: Any = torch.ops.aten


def _direct(function: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    return lambda *inputs: lambda: function(*inputs)


def _attention(*qkv: torch.Tensor) -> Callable[[], Any]:
    return lambda: _aten._scaled_dot_product_flash_attention_for_cpu(*qkv)[0]


def _attention_backward(dy: torch.Tensor, *qkv: torch.Tensor) -> Callable[[], Any]:
    out, sums = _aten._scaled_dot_product_flash_attention_for_cpu(*qkv)
    return lambda: _aten._scaled_dot_product_flash_attention_for_cpu_backward(dy, *qkv, out, sums, 0.0, False)[0]


def _layer_norm_backward(dy: torch.Tensor, x: torch.Tensor) -> Callable[[], Any]:
    shape, weight, bias = x.shape[-1:], torch.ones_like(x[0].flatten()[: x.shape[-1]]), None
    _, mean, rstd = torch.native_layer_norm(x, shape, weight, bias, 1e-5)
    return lambda: _aten.native_layer_norm_backward(dy, x, shape, mean, rstd, weight, bias, (True, True, False))[0]


def _convolution_backward(dy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> Callable[[], Any]:
    """Both gradients, with the smallest stride and padding that give these shapes."""
    fits = [_fit(*sizes) for sizes in zip(x.shape[2:], dy.shape[2:], weight.shape[2:], strict=True)]
    stride, padding = [fit[0] for fit in fits], [fit[1] for fit in fits]
    rest = ([1] * len(fits), False, [0] * len(fits), x.shape[1] // weight.shape[1], (True, True, False))
    return lambda: _aten.convolution_backward(dy, x, weight, None, stride, padding, *rest)[1]


def _fit(size: int, positions: int, kernel: int) -> tuple[int, int]:
    for stride in range(1, min(size, 64) + 1):
        for padding in range(min(kernel, 64)):
            if (size + 2 * padding - kernel) // stride + 1 == positions:
                return stride, padding
    raise ValueError("no stride and padding give these shapes")


# Operators that shapes say enough about: how many tensors they take, and what makes the call to be timed.
_CALLS: dict[str, tuple[int, Callable[..., Callable[[], Any]]]] = {
    "aten::mm": (2, _direct(torch.mm)),
    "aten::addmm": (3, _direct(torch.addmm)),
    "aten::bmm": (2, _direct(torch.bmm)),
    "aten::baddbmm": (3, _direct(torch.baddbmm)),
    "aten::add": (2, _direct(torch.add)),
    "aten::add_": (2, _direct(torch.Tensor.add_)),
    "aten::mul": (2, _direct(torch.mul)),
    "aten::sub": (2, _direct(torch.sub)),
    "aten::div": (2, _direct(torch.div)),
    "aten::relu": (1, _direct(torch.relu)),
    "aten::clamp_min": (1, _direct(torch.relu)),
    "aten::gelu": (1, _direct(torch.nn.functional.gelu)),
    "aten::gelu_backward": (2, _direct(_aten.gelu_backward)),
    "aten::threshold_backward": (2, _direct(lambda dy, x: _aten.threshold_backward(dy, x, 0))),
    "aten::silu": (1, _direct(torch.nn.functional.silu)),
    "aten::tanh": (1, _direct(torch.tanh)),
    "aten::sigmoid": (1, _direct(torch.sigmoid)),
    "aten::_softmax": (1, _direct(lambda x: torch.softmax(x, -1))),
    "aten::_log_softmax": (1, _direct(lambda x: torch.log_softmax(x, -1))),
    "aten::_log_softmax_backward_data": (
        2,
        _direct(lambda dy, y: _aten._log_softmax_backward_data(dy, y, -1, y.dtype)),
    ),
    "aten::native_layer_norm": (1, _direct(lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:]))),
    "aten::native_layer_norm_backward": (2, _layer_norm_backward),
    "aten::sum": (1, _direct(torch.sum)),
    "aten::mean": (1, _direct(torch.mean)),
    "aten::copy_": (2, _direct(torch.Tensor.copy_)),
    "aten::_scaled_dot_product_flash_attention_for_cpu": (3, _attention),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": (4, _attention_backward),
    "aten::convolution_backward": (3, _convolution_backward),
}


def run_mine(ops: list[StudyOp], protocol: Protocol, ceilings: Ceilings | None) -> Iterator[Row]:
    """A row for each different operation: alone under the protocol, and its time in place in the note."""
    for index, op in enumerate(_together(ops)):
        yield _run(index, op, protocol, ceilings)


def _together(ops: list[StudyOp]) -> list[StudyOp]:
    """Calls of one operator with the same shapes, in whatever layer, as one; most expensive first."""
    found: dict[tuple[str, str | None], list[StudyOp]] = {}
    for op in ops:
        found.setdefault((op.op, op.shapes), []).append(op)
    sums = [
        StudyOp(name, shapes, _sum(each.ms for each in same), _sum(each.calls for each in same))
        for (name, shapes), same in found.items()
    ]
    return sorted(sums, key=lambda op: -(op.ms or 0.0))


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else float(sum(value for value in known if value is not None))


def _run(index: int, op: StudyOp, protocol: Protocol, ceilings: Ceilings | None) -> Row:
    row = Row(suite="mine", op=op.op, index=index, label=op.shapes or "shapes not recorded", direction="forward",
              dtype="fp32", note=_in_place(op))  # fmt: skip
    try:
        inputs, maker = _prepare(op)
        exact = maker(*(tensor.double() for tensor in inputs))()
        row.error = relative_error(maker(*(tensor.clone() for tensor in inputs))(), exact)
        work = maker(*inputs)
    except (ValueError, RuntimeError) as error:
        row.skipped = str(error).splitlines()[0][:200]
        return row
    timing = measure(work, protocol)
    row.median_ms, row.low_ms, row.high_ms = timing.median_ns / 1e6, timing.low_ns / 1e6, timing.high_ns / 1e6
    row.least_ms, row.samples, row.settled = timing.least_ns / 1e6, timing.samples, timing.settled
    row.tolerance, row.correct = 1e-3, row.error <= 1e-3
    cost = cost_of(op.op, [list(tensor.shape) for tensor in inputs])
    if cost is not None:
        row.flops, row.bytes = cost.flops, cost.bytes_moved
        row.tflops = cost.flops / timing.median_ns / 1e3 if cost.flops else None
        row.gb_per_s = cost.bytes_moved / timing.median_ns if cost.bytes_moved else None
        row.bound_ms = bound_ms(cost, classify_op(op.op), "fp32", ceilings) if ceilings is not None else None
    return row


def _in_place(op: StudyOp) -> str:
    if op.ms is None or not op.calls:
        return "time in place not known"
    return f"in place {op.ms / op.calls:.4g} ms a call, {op.calls:g} calls a step"


def _prepare(op: StudyOp) -> tuple[list[torch.Tensor], Callable[..., Callable[[], Any]]]:
    """Random float32 inputs; ValueError says why an operation cannot be run from its shapes."""
    if op.op not in _CALLS:
        raise ValueError(f"{op.op} needs more than shapes to run alone")
    count, maker = _CALLS[op.op]
    try:
        shapes = json.loads(op.shapes or "null")
    except ValueError:
        shapes = None
    if not isinstance(shapes, list) or len(shapes) < count:
        raise ValueError("the study has no shapes for it; record them with longpole run")
    inputs: list[torch.Tensor] = []
    for shape in shapes[:count]:
        if not isinstance(shape, list) or not all(isinstance(size, int) and 0 <= size < 2**31 for size in shape):
            raise ValueError(f"{str(shape)[:60]} is no shape")
        if torch.Size(shape).numel() > _MOST_ELEMENTS:
            raise ValueError("too large to run alone")
        inputs.append(torch.randn(shape))
    return inputs, maker
