"""`--suite mine=STUDY.json`: the operations of one's own network, alone, beside their time in place."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import msgspec

from longpole.bench.mine_calls import hints_of, prepare
from longpole.bench.operations.piece import relative_error
from longpole.bench.results import Row
from longpole.bench.timing import Protocol, measure
from longpole.cost import cost_of
from longpole.cost.op_classes import classify_op
from longpole.errors import LongpoleError
from longpole.machine import bound_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import torch

    from longpole.machine import Ceilings

_TOLERANCE = 1e-3


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


def run_mine(
    ops: list[StudyOp], protocol: Protocol, ceilings: Ceilings | None, budget_s: float | None = None
) -> Iterator[Row]:
    """A row for each operation: alone under the protocol, beside its time in place. None is begun after the budget."""
    hints = hints_of((op.op, op.shapes) for op in ops)
    deadline = math.inf if budget_s is None else time.monotonic() + budget_s
    for index, op in enumerate(together(ops)):
        if time.monotonic() >= deadline:
            return
        yield _run(index, op, hints, protocol, ceilings)


def together(ops: list[StudyOp]) -> list[StudyOp]:
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


def _run(
    index: int, op: StudyOp, hints: Mapping[tuple[Any, ...], Any], protocol: Protocol, ceilings: Ceilings | None
) -> Row:
    row = Row(suite="mine", op=op.op, index=index, label=op.shapes or "shapes not recorded", direction="",
              dtype="fp32", note=_in_place(op), calls=op.calls)  # fmt: skip
    row.in_place_ms = op.ms / op.calls if op.ms is not None and op.calls else None
    try:
        inputs, maker, call = prepare(op.op, op.shapes, hints)
        row.note += f"; {call.remark}" if call.remark else ""
        if not call.random:
            row.error = _error(inputs, maker)
        work = maker(*inputs)
        work()
    except (ValueError, RuntimeError) as error:
        row.skipped = str(error).splitlines()[0][:200]
        return row
    timing = measure(work, protocol)
    row.median_ms, row.low_ms, row.high_ms = timing.median_ns / 1e6, timing.low_ns / 1e6, timing.high_ns / 1e6
    row.first_quartile_ms, row.third_quartile_ms = timing.first_quartile_ns / 1e6, timing.third_quartile_ns / 1e6
    row.least_ms, row.samples, row.settled = timing.least_ns / 1e6, timing.samples, timing.settled
    if row.error is not None:
        row.tolerance, row.correct = _TOLERANCE, row.error <= _TOLERANCE
    cost = cost_of(op.op, [list(tensor.shape) for tensor in inputs])
    if cost is not None:
        row.flops, row.bytes = cost.flops, cost.bytes_moved
        row.tflops = cost.flops / timing.median_ns / 1e3 if cost.flops else None
        row.gb_per_s = cost.bytes_moved / timing.median_ns if cost.bytes_moved else None
        row.bound_ms = bound_ms(cost, classify_op(op.op), "fp32", ceilings) if ceilings is not None else None
    return row


def _error(inputs: list[torch.Tensor], maker: Callable[..., Callable[[], Any]]) -> float:
    """Of one call on copies, since some change their inputs; whole numbers stay as they are."""
    exact = maker(*(each.double() if each.is_floating_point() else each for each in inputs))()
    return relative_error(maker(*(each.clone() for each in inputs))(), exact)


def _in_place(op: StudyOp) -> str:
    if op.ms is None or not op.calls:
        return "time in place not known"
    return f"in place {op.ms / op.calls:.4g} ms a call, {op.calls:g} calls a step"
