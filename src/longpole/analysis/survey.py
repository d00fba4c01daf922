"""The survey: what many networks' runs amount to, side by side. Its JSON is stable as the study's is.

Times are milliseconds a step, shares are fractions of the step, None (null) is not known and never 0.

Version 1: first.
"""

from __future__ import annotations

import msgspec

from longpole.analysis.stable_json import read_result

SCHEMA = "longpole.survey"
VERSION = 1


class Estimate(msgspec.Struct, frozen=True):
    """A mean over runs, and where as many runs more would find theirs, 95 times of 100."""

    value: float
    low: float | None = None
    high: float | None = None


class Serial(msgspec.Struct, frozen=True):
    """The layers of a step that must wait for one another, as `analysis.serial_chain` has them."""

    layers: int  # the most of them that wait for one another
    of_layers: int
    chain_share: float | None = None  # the least time of forward and backward, however much room, over what they take
    at_once: float | None = None  # layers that could be at work at once, on average


class OverBatch(msgspec.Struct, frozen=True):
    """A step of n samples takes fixed_ms + per_sample_ms × n. Intervals hold the truth 95 times of 100, if it does."""

    batches: list[int]  # that ran
    fixed_ms: Estimate
    per_sample_ms: Estimate
    # The batch from which a sample costs at most 5 % more than in the largest ones. None: what a sample costs is lost
    # in the noise. An end is None where the noise leaves it open.
    enough: Estimate | None = None


class OverThreads(msgspec.Struct, frozen=True):
    """What more threads gave, and what still more could: serial + parallel / threads (Amdahl 1967)."""

    threads: list[int]  # that ran
    gained: Estimate | None = None  # times as fast on the most threads as on the fewest, here one
    serial_share: Estimate | None = None  # of the time on one thread; above 1 where threads made it slower
    limit: Estimate | None = None  # times as fast as on the most threads, with threads without end


class Figures(msgspec.Struct):
    """One run of one network, in one process of its own."""

    step_ms: float  # the mean, which the phases sum to
    median_ms: float
    steps: int  # that were timed
    phases_ms: dict[str, float]
    classes_ms: dict[str, float] = {}
    classes_flops: dict[str, float] = {}
    input_grad_ms: float | None = None
    weight_grad_ms: float | None = None
    samples_per_s: float | None = None
    pole: str = ""  # the longest part in words
    pole_ms: float | None = None
    bound_ms: dict[str, float] | None = None  # compute, memory, host, outside, unknown; they sum to the step
    saved_bytes: int | None = None
    parameters_bytes: int | None = None
    optimizer_bytes: int | None = None
    accounted_share: float | None = None
    unclassified_ms: float = 0.0
    unclassified: list[str] = []
    parameters: int | None = None
    batch_size: int | None = None
    threads: int | None = None
    framework: str | None = None
    serial: Serial | None = None


class Row(msgspec.Struct):
    """One network. Figures are means over its runs; `failed` says why there are none."""

    network: str
    family: str
    says: str
    size: str
    runs: int = 0
    failed: str | None = None
    seconds: float = 0.0  # that measuring took
    steps: int = 0  # that were timed, in all runs
    parameters: int | None = None
    batch_size: int | None = None
    step_ms: Estimate | None = None
    samples_per_s: float | None = None
    phases_ms: dict[str, float] = {}
    phases: dict[str, Estimate] = {}  # shares
    passes_share: Estimate | None = None  # forward, loss and backward
    backward_to_forward: Estimate | None = None  # of forward with its loss
    input_grad_share: Estimate | None = None
    weight_grad_share: Estimate | None = None
    classes: dict[str, Estimate] = {}  # shares of the step
    products_share: Estimate | None = None  # matmul, convolution, attention, recurrent
    products_flops_share: float | None = None
    flops: float | None = None  # of a step
    pole: str = ""
    pole_share: float | None = None
    bound: dict[str, float] | None = None  # shares
    saved_bytes: int | None = None
    parameters_bytes: int | None = None
    optimizer_bytes: int | None = None
    accounted_share: float | None = None  # of the run that has least
    unclassified_share: float | None = None  # of the run that has most
    unclassified: list[str] = []
    serial: Serial | None = None
    over_batch: OverBatch | None = None
    over_threads: OverThreads | None = None
    not_known: dict[str, str] = {}  # why over_batch ("batch") or over_threads ("threads") is null


class Survey(msgspec.Struct):
    """All rows, and where they were measured."""

    schema: str = SCHEMA
    version: int = VERSION
    date: str = ""  # YYYY-MM-DD
    machine: str | None = None
    cores: int | None = None
    threads: int | None = None
    framework: str | None = None
    size: str = "small"
    runs: int = 0
    rows: list[Row] = []
    interrupted: bool = False  # by the user, before all runs were done

    def to_json(self) -> bytes:
        """Indented UTF-8 JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def load_survey(data: bytes, where: str) -> Survey:
    """A Survey from its JSON; raises LongpoleError where `data` is none of a version known here."""
    return read_result(data, Survey, (SCHEMA, VERSION), where)
