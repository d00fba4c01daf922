"""Results of operations: rows, the conditions they hold under, and the file they are kept in.

Two files are compared only where conditions that decide times are equal; what differs is named.
"""

from __future__ import annotations

import csv
import io
import os
from typing import TYPE_CHECKING, Any

import msgspec

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCHEMA = "longpole.ops"
VERSION = 1


class Row(msgspec.Struct, kw_only=True):
    """One piece of one size. Times in milliseconds a call; None is not known or not measured."""

    suite: str
    op: str
    index: int
    label: str
    direction: str
    dtype: str
    cache: str = "hot"  # hot: data as the last call left it; cold: caches emptied before each call
    params: dict[str, str] = {}
    flops: float | None = None
    bytes: float | None = None
    median_ms: float | None = None
    low_ms: float | None = None  # 95 % interval of the median
    high_ms: float | None = None
    first_quartile_ms: float | None = None
    third_quartile_ms: float | None = None
    least_ms: float | None = None
    samples: int = 0
    settled: bool | None = None  # the interval is within 2 % of the median; else the budget ended first
    tflops: float | None = None
    gb_per_s: float | None = None
    bus_gb_per_s: float | None = None
    bound_ms: float | None = None
    error: float | None = None  # relative to float64
    tolerance: float | None = None
    correct: bool | None = None
    skipped: str | None = None
    note: str = ""
    in_place_ms: float | None = None  # a call, in the study that the operation is from
    calls: float | None = None  # a step of that study

    def key(self) -> tuple[str, str, int, str, str, str]:
        """What it is, apart from how long it took."""
        return self.suite, self.op, self.index, self.label, self.dtype, self.cache


class Results(msgspec.Struct):
    """Rows measured under one set of conditions."""

    conditions: dict[str, str]
    rows: list[Row] = []
    schema: str = SCHEMA
    version: int = VERSION


# Conditions that must be equal for times to be comparable; others are told but may differ.
DECISIVE = ("processor", "cores", "threads", "device", "torch", "blas")


def differences(one: Results, other: Results) -> list[str]:
    """Conditions that make a comparison unfair, each as a sentence; none where it is fair."""
    return [
        f"{name}: {one.conditions.get(name, 'not known')} and {other.conditions.get(name, 'not known')}"
        for name in DECISIVE
        if one.conditions.get(name) != other.conditions.get(name)
    ]


def load_results(path: Path) -> Results | None:
    """A file of results, or None where there is none; raises LongpoleError where it is something else."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LongpoleError(f"cannot read {path}: {error.strerror}; name another file") from error
    try:
        found = msgspec.json.decode(data, type=Results)
    except msgspec.MsgspecError as error:
        said = f"{path} is no file of operation results ({error})"
        raise LongpoleError(f"{said}; name another file, or start it anew with --again") from error
    if found.schema != SCHEMA or found.version > VERSION:
        raise LongpoleError(f"{path} is {found.schema} {found.version}; this longpole reads {SCHEMA} up to {VERSION}")
    return found


def to_json(results: Results) -> str:
    return msgspec.json.format(msgspec.json.encode(results), indent=1).decode() + "\n"


def save_results(results: Results, path: Path) -> None:
    """Writes the file whole or not at all: a run may be interrupted."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(to_json(results), encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise LongpoleError(f"cannot write {path}: {error.strerror}; choose another place") from error


def to_csv(rows: Sequence[Row]) -> str:
    """A line a row; parameters as `name=value` in one column."""
    names = [name for name in Row.__struct_fields__ if name != "params"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, "params"])
    for row in rows:
        values: list[Any] = [getattr(row, name) for name in names]
        params = " ".join(f"{name}={value}" for name, value in row.params.items())
        writer.writerow([*("" if value is None else value for value in values), params])
    return out.getvalue()
