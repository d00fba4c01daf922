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
    from collections.abc import Callable, Iterator
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
    """The operations of a study, most expensive first; LongpoleError where the file is no study."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=StudyOps)
    except OSError as error:
        raise LongpoleError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise LongpoleError(f"{path} is no longpole study: {error}") from error
    if found.schema != "longpole.study":
        raise LongpoleError(f"{path} is a {found.schema}, not a longpole study; make one with longpole run --json")
    return sorted(found.ops, key=lambda op: -(op.ms or 0.0))


# Operators that a shape says everything about; `n` is how many tensors they take.
_CALLS: dict[str, tuple[int, Callable[..., Any]]] = {
    "aten::mm": (2, torch.mm),
    "aten::addmm": (3, torch.addmm),
    "aten::bmm": (2, torch.bmm),
    "aten::baddbmm": (3, torch.baddbmm),
    "aten::add": (2, torch.add),
    "aten::mul": (2, torch.mul),
    "aten::sub": (2, torch.sub),
    "aten::div": (2, torch.div),
    "aten::relu": (1, torch.relu),
    "aten::gelu": (1, torch.nn.functional.gelu),
    "aten::silu": (1, torch.nn.functional.silu),
    "aten::tanh": (1, torch.tanh),
    "aten::sigmoid": (1, torch.sigmoid),
    "aten::_softmax": (1, lambda x: torch.softmax(x, -1)),
    "aten::_log_softmax": (1, lambda x: torch.log_softmax(x, -1)),
    "aten::native_layer_norm": (1, lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:])),
    "aten::sum": (1, torch.sum),
    "aten::mean": (1, torch.mean),
    "aten::copy_": (2, lambda to, source: to.copy_(source)),
}


def run_mine(ops: list[StudyOp], protocol: Protocol, ceilings: Ceilings | None) -> Iterator[Row]:
    """A row for each operation: alone under the protocol, and its time in place in the note."""
    for index, op in enumerate(ops):
        yield _run(index, op, protocol, ceilings)


def _run(index: int, op: StudyOp, protocol: Protocol, ceilings: Ceilings | None) -> Row:
    row = Row(suite="mine", op=op.op, index=index, label=op.shapes or "shapes not recorded", direction="forward",
              dtype="fp32", note=_in_place(op))  # fmt: skip
    try:
        inputs, function = _prepare(op)
        exact = function(*(tensor.double() for tensor in inputs))
        row.error = relative_error(function(*inputs), exact)
    except (ValueError, RuntimeError) as error:
        row.skipped = str(error).splitlines()[0][:200]
        return row
    timing = measure(lambda: function(*inputs), protocol)
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


def _prepare(op: StudyOp) -> tuple[list[torch.Tensor], Callable[..., Any]]:
    """Random float32 inputs; ValueError says why an operation cannot be run from its shapes."""
    if op.op not in _CALLS:
        raise ValueError(f"{op.op} needs more than shapes to run alone")
    count, function = _CALLS[op.op]
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
    return inputs, function
