"""The survey: what many networks' runs amount to, side by side. Its JSON is stable as the study's is.

Times are milliseconds a step, shares are fractions of the step, None (null) is not known and never 0.

Version 1: first.
"""

from __future__ import annotations

import msgspec

from longpole.errors import LongpoleError

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

    def to_json(self) -> bytes:
        """Indented UTF-8 JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def load_survey(data: bytes, where: str) -> Survey:
    """A Survey from its JSON; raises LongpoleError where `data` is none of a version known here."""
    try:
        found = msgspec.json.decode(data, type=Survey)
    except msgspec.MsgspecError as error:
        raise LongpoleError(f"{where} is not a longpole survey: {error}") from error
    if found.schema != SCHEMA or found.version > VERSION:
        raise LongpoleError(
            f"{where} is a {found.schema} of version {found.version}; this longpole reads {SCHEMA} up to {VERSION}"
        )
    return found
