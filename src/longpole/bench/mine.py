"""`--suite mine=STUDY.json`: the operations of one's own network, alone, beside their time in place."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

from longpole.bench.devices import device_of
from longpole.bench.mine_calls import CALLS, hints_of, prepare, shapes_of
from longpole.bench.operations.piece import relative_error
from longpole.bench.results import Row
from longpole.bench.timing import measure
from longpole.cost import cost_of
from longpole.cost.op_classes import classify_op
from longpole.errors import LongpoleError
from longpole.machine import bound_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from pathlib import Path

    import torch

    from longpole.bench.timing import Protocol, Timing
    from longpole.cost import Cost
    from longpole.machine import Ceilings

_TOLERANCE = 1e-3
NEVER = "not from this study"  # of an operation that its shapes do not say enough of, however often it is tried


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


@dataclass(frozen=True, slots=True)
class How:
    """How operations of a study are run."""

    protocol: Protocol
    ceilings: Ceilings | None = None
    caches: tuple[str, ...] = ("hot",)
    budget_s: float | None = None  # of all together
    check_only: bool = False  # each once, compared with float64 and not timed


def run_mine(
    ops: Sequence[StudyOp], todo: Sequence[StudyOp], how: How, seen: Callable[[int, int, str], None] = lambda *_: None
) -> Generator[list[Row]]:
    """The rows of each operation to do: alone under the protocol, beside its time in place.

    `todo` are some of `together(ops)`; all of the study's tell what the shapes of one leave open. None is begun after
    the budget.
    """
    hints = hints_of((op.op, op.shapes) for op in ops)
    deadline = math.inf if how.budget_s is None else time.monotonic() + how.budget_s
    study, places = study_key(ops), {(op.op, op.shapes): place for place, op in enumerate(together(ops))}
    for position, op in enumerate(todo):
        if time.monotonic() >= deadline:
            return
        seen(position, len(todo), f"{op.op} {op.shapes or ''}")
        rows = list(_run(op, hints, how))
        for row in rows:
            row.params = {"study": study}
            in_place(row, places[op.op, op.shapes], op)
        yield rows


def study_key(ops: Iterable[StudyOp]) -> str:
    """Tells networks apart: what decides the time of operations alone is which there are, and their shapes."""
    listing = sorted({f"{op.op} {op.shapes}" for op in ops})
    return sha256("\n".join(listing).encode()).hexdigest()[:12]


def together(ops: Iterable[StudyOp]) -> list[StudyOp]:
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


def in_place(row: Row, place: int, op: StudyOp) -> None:
    """Writes what the study says of the operation into its row, and its place among all by time."""
    row.index, row.calls = place, op.calls
    row.in_place_ms = op.ms / op.calls if op.ms is not None and op.calls else None


def _run(op: StudyOp, hints: Mapping[tuple[Any, ...], Any], how: How) -> Generator[Row]:
    try:
        inputs, maker, call = prepare(op.op, op.shapes, hints)
        error = None if call.random else _error(inputs, maker)
        work = maker(*inputs)
        work()
    except (ValueError, RuntimeError, MemoryError) as failure:
        reason = (str(failure).splitlines() or [type(failure).__name__])[0][:200]
        yield _row(op, how.caches[0], skipped=reason, note=NEVER if isinstance(failure, ValueError) else "")
        return
    checked: dict[str, Any] = {"note": call.remark}
    if error is not None:
        checked |= {"error": error, "tolerance": _TOLERANCE, "correct": error <= _TOLERANCE}
    if how.check_only:
        nothing = {} if error is not None else {"skipped": "random numbers: there is nothing to compare with"}
        yield _row(op, how.caches[0], **checked, **nothing)
        return
    for cache in how.caches:
        flush = device_of("cpu").flush() if cache == "cold" else None
        timing = measure(work, how.protocol, before_each=flush)
        row = _timed(_row(op, cache, **checked), timing)
        row.bound_ms = bound_of(row, how.ceilings)
        yield row


def _row(op: StudyOp, cache: str, **values: Any) -> Row:
    return Row(
        suite="mine", op=op.op, index=0, label=op.shapes or "shapes not recorded", direction="", dtype="fp32",
        cache=cache, **values,
    )  # fmt: skip


def _timed(row: Row, timing: Timing) -> Row:
    row.median_ms, row.low_ms, row.high_ms = timing.median_ns / 1e6, timing.low_ns / 1e6, timing.high_ns / 1e6
    row.first_quartile_ms, row.third_quartile_ms = timing.first_quartile_ns / 1e6, timing.third_quartile_ns / 1e6
    row.least_ms, row.samples, row.settled = timing.least_ns / 1e6, timing.samples, timing.settled
    cost = _cost(row)
    if cost is not None:
        row.flops, row.bytes = cost.flops, cost.bytes_moved
        row.tflops = cost.flops / timing.median_ns / 1e3 if cost.flops else None
        row.gb_per_s = cost.bytes_moved / timing.median_ns if cost.bytes_moved else None
    return row


def _cost(row: Row) -> Cost | None:
    """Of what is run alone: the shapes that its call uses."""
    try:
        shapes = shapes_of(row.label)
    except ValueError:
        return None
    if shapes is None or row.op not in CALLS:
        return None
    return cost_of(row.op, [list(shape) for shape in shapes[: CALLS[row.op].tensors]])


def bound_of(row: Row, ceilings: Ceilings | None) -> float | None:
    """The least milliseconds this machine could take; None where cost or ceilings are not known."""
    if ceilings is None or row.median_ms is None:
        return None
    return bound_ms(_cost(row), classify_op(row.op), "fp32", ceilings)


def _error(inputs: list[torch.Tensor], maker: Callable[..., Callable[[], Any]]) -> float:
    """Of one call on copies, since some change their inputs; whole numbers stay as they are."""
    exact = maker(*(each.double() if each.is_floating_point() else each for each in inputs))()
    return relative_error(maker(*(each.clone() for each in inputs))(), exact)
