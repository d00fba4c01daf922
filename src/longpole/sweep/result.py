"""What a sweep found out: `longpole.sweep`, stable JSON like the study's.

Times are milliseconds a step. A figure is {value, low, high} with a 95 % interval; null is not known.

Version 1: first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from longpole.analysis.serial_chain import SerialChain
from longpole.analysis.stable_json import read_result
from longpole.sweep.axes import Axis, Point
from longpole.sweep.lines import Figure

if TYPE_CHECKING:
    from longpole.analysis.study import Study

SCHEMA = "longpole.sweep"
VERSION = 1
OUTSIDE = "(in no layer)"


class SweepRun(msgspec.Struct):
    """One run of the script. The parts in each table sum to `step_ms`."""

    round: int
    batch: int | None = None  # as asked for
    threads: int | None = None
    step_ms: float | None = None  # median of its steps
    phases: dict[str, float] = {}
    op_classes: dict[str, float] = {}
    layers: dict[str, float] = {}  # leaves, containers' own time, and OUTSIDE
    seen_batch: int | None = None  # first dimension of what the network was given
    framework: str | None = None
    device: str | None = None
    model: str | None = None
    serial_chain: SerialChain | None = None
    failed: str | None = None  # why there is nothing else

    @property
    def point(self) -> Point:
        return Point(self.batch, self.threads)


class BatchRow(msgspec.Struct):
    """fixed_ms + per_sample_ms × batch."""

    kind: str  # step | phase | op_class | layer
    name: str
    mean_ms: float  # over the runs that the fit is from
    fixed_ms: Figure
    per_sample_ms: Figure
    off_line: float  # the most that the mean at a batch lies from the line, as a fraction


class BatchResult(msgspec.Struct):
    """How time grows with the batch, on so many threads."""

    threads: int | None
    rows: list[BatchRow]  # the step first; the rows of a kind sum to it
    enough: Figure | None = None  # the batch from which on a sample costs within 5 % of what it costs in the largest


class ThreadRow(msgspec.Struct):
    """serial_ms + parallel_ms / threads."""

    kind: str
    name: str
    mean_ms: float
    serial_ms: Figure
    parallel_ms: Figure
    serial_share: Figure | None = None  # of the time on one thread
    gained: Figure | None = None  # times as fast on the most threads tried as on one
    limit: Figure | None = None  # times as fast as on the most tried, with threads without end


class ThreadResult(msgspec.Struct):
    """What more threads gave, at this batch."""

    batch: int | None
    most: int
    rows: list[ThreadRow]


class Sweep(msgspec.Struct):
    schema: str = SCHEMA
    version: int = VERSION
    script: str = ""
    argv: list[str] = []
    framework: str | None = None
    device: str | None = None
    model: str | None = None
    cores: int | None = None
    axes: list[Axis] = []
    steps: int = 0  # timed in each run
    runs: list[SweepRun] = []
    by_batch: list[BatchResult] = []  # one for each number of threads
    by_threads: list[ThreadResult] = []  # one for each batch
    serial_chain: SerialChain | None = None  # of the largest batch
    sentences: list[str] = []
    interrupted: bool = False  # by the user, before all runs were done
    warnings: list[str] = []

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def load_sweep(data: bytes, where: str) -> Sweep:
    """A Sweep from its JSON. Raises LongpoleError where `data` is none of a version known here."""
    return read_result(data, Sweep, (SCHEMA, VERSION), where)


def run_of(study: Study, round_: int, point: Point) -> SweepRun:
    """A run as a sweep needs it: the step is the median, and parts have their shares of it."""
    step = study.step.wall_ms.median or 0.0
    layers: dict[str, float] = {}
    for layer in study.layers:
        name = layer.layer or layer.type
        layers[name] = layers.get(name, 0.0) + (layer.own_forward_ms or 0.0) + (layer.own_backward_ms or 0.0)
    whole = study.step.wall_ms.mean or step
    if layers:
        layers[OUTSIDE] = max(whole - sum(layers.values()), 0.0)
    return SweepRun(
        round=round_,
        batch=point.batch,
        threads=point.threads,
        step_ms=step,
        phases=_shares_of(step, {phase.phase: phase.ms for phase in study.phases}),
        op_classes=_shares_of(step, {entry.op_class: entry.ms for entry in study.op_classes}),
        layers=_shares_of(step, layers),
        seen_batch=study.run.batch_size,
        framework=study.run.framework,
        device=study.run.device,
        model=study.run.model,
        serial_chain=study.serial_chain,
    )


def _shares_of(step_ms: float, parts: dict[str, float]) -> dict[str, float]:
    whole = sum(parts.values())
    return {name: ms / whole * step_ms for name, ms in parts.items()} if whole > 0 else {}
