"""The study: what every report shows, and the stable JSON that tools and CI depend on.

Times are milliseconds a step, shares are fractions of the step, None (null) is not known and never 0.
Fields may be added; a field is never renamed, removed or given another unit within a version.

Version 1: first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import msgspec

from longpole.analysis.device_results import CommunicationTime, CriticalPath, RankReport
from longpole.analysis.memory_results import (
    Growth,
    Holder,
    MemoryTimeline,
    PeakAt,
    ResidentPart,
    SavedByLayer,
    SavedPart,
)
from longpole.analysis.serial_chain import SerialChain
from longpole.analysis.stable_json import read_result
from longpole.errors import LongpoleError

SCHEMA = "longpole.study"
VERSION = 1


class StepCounts(msgspec.Struct):
    seen: int = 0
    warmup: int = 0
    measured: int = 0  # at level 0: the step time comes from these
    profiled: int = 0  # at deeper levels: the shares inside phases come from these
    set_aside: int = 0  # of the measured, hiccups left out of means; their excess is in `warnings`


class Run(msgspec.Struct):
    script: str | None = None
    argv: list[str] = []
    device: str | None = None
    framework: str | None = None
    world_size: int | None = None
    steps: StepCounts = msgspec.field(default_factory=StepCounts)
    batch_size: int | None = None
    stopped: str = "window"  # window | script end | interrupt | error
    source: str = "live"  # live | kineto | perfetto
    model: str | None = None  # "GPT, 10.8 M parameters"
    parameters: int | None = None
    warnings: list[str] = []
    facts: dict[str, str] = {}


class Machine(msgspec.Struct):
    name: str | None = None
    cores: int | None = None
    threads: int | None = None
    ceilings: dict[str, Any] = {}


class Spread(msgspec.Struct):
    median: float | None = None
    low: float | None = None  # 95 % interval of the median
    high: float | None = None
    n: int = 0
    mean: float | None = None  # what the phases sum to


class StepSample(msgspec.Struct):
    step: int
    ms: float
    kind: str = "measured"  # measured | set aside | profiled | warmup


class Step(msgspec.Struct):
    wall_ms: Spread = msgspec.field(default_factory=Spread)
    samples_per_s: float | None = None
    accounted_share: float | None = None  # of the step, with a name: 1 - residual
    probe_share: float | None = None  # what measuring cost the steps the time is taken from
    residual_ms: float | None = None  # time that nobody claims
    profiled_probe_share: float | None = None  # what the deepest level added to its own steps
    samples: list[StepSample] = []  # wall time of each step, in order, for the picture of the run


class BoundShares(msgspec.Struct):
    """The step by what limits it, in milliseconds that sum to it; `bound_ms` is the least its ops could take."""

    compute_ms: float = 0.0
    memory_ms: float = 0.0
    host_ms: float = 0.0  # Python and the dispatcher inside the network and the optimizer
    outside_ms: float = 0.0  # data, logging, evaluation and the like
    unknown_ms: float = 0.0  # ops without a known cost
    bound_ms: float | None = None


class Site(msgspec.Struct):
    where: str  # "train.py:41 in fetch_batch"
    ms: float


class PhaseTime(msgspec.Struct):
    phase: str
    ms: float
    share: float
    low: float | None = None
    high: float | None = None
    sites: list[Site] = []
    note: str = ""
    bound_ms: float | None = None
    samples: list[float] = []  # ms in each step, where known: `compare` decides by them


class LayerTime(msgspec.Struct):
    layer: str
    type: str = ""
    container: bool = False
    parent: int = -1  # row of the layer that holds it; -1 for an outermost one
    params: int | None = None
    forward_ms: float | None = None
    backward_ms: float | None = None
    input_grad_ms: float | None = None
    weight_grad_ms: float | None = None
    recompute_ms: float | None = None
    optimizer_ms: float | None = None
    total_ms: float | None = None
    share: float | None = None
    saved_bytes: int | None = None
    flops: float | None = None
    bound_ms: float | None = None
    calls: float | None = None  # module calls a step
    own_ms: float | None = None  # containers: the part of total_ms that is in no child
    samples: list[float] = []  # ms in each step, where known: `compare` decides by them
    own_forward_ms: float | None = None
    own_backward_ms: float | None = None
    own_input_grad_ms: float | None = None
    own_weight_grad_ms: float | None = None
    saved_ms: float | None = None  # from saved to used, weighted by bytes; of `saved_bytes`
    saved_parts: list[SavedPart] = []  # `saved_bytes` by operation and sort


class OpClassTime(msgspec.Struct):
    op_class: str
    ms: float
    share: float
    forward_ms: float | None = None
    backward_ms: float | None = None
    flops: float | None = None
    bytes: float | None = None
    bound_ms: float | None = None
    calls: float | None = None
    samples: list[float] = []  # ms in each step, where known: `compare` decides by them


class OpTime(msgspec.Struct):
    op: str
    op_class: str
    role: str
    layer: str | None
    shapes: str | None
    ms: float
    calls: float | None = None
    flops: float | None = None
    bytes: float | None = None
    bound_ms: float | None = None
    of_ceiling: float | None = None
    samples: list[float] = []  # ms in each step, where known: `compare` decides by them


class Memory(msgspec.Struct):
    peak_bytes: int | None = None
    parameters_bytes: int | None = None
    gradients_bytes: int | None = None
    optimizer_bytes: int | None = None
    saved_bytes: int | None = None
    peak_at: PeakAt | None = None
    holders: list[Holder] = []  # at the peak; they sum to `peak_bytes`
    timeline: MemoryTimeline | None = None
    saved_by_layer: list[SavedByLayer] = []  # with children, containers too; not summable
    weights_saved_bytes: int | None = None  # parameters and buffers that backward also refers to; in no sum
    resident_bytes: int | None = None  # of the process, at the peak
    resident_parts: list[ResidentPart] = []  # these sum to `resident_bytes`
    unexplained_bytes: int | None = None  # of `resident_bytes`, with no name
    measured_peak_bytes: int | None = None  # by the allocator's own count, where there is one
    growth: list[Growth] = []
    measuring_ms: float | None = None  # what looking at memory took, once in the run
    measured_steps: int = 0  # steps that were looked at; they are among the profiled ones
    notes: list[str] = []  # what could not be seen, and why


class Answer(msgspec.Struct):
    question: str
    answer: str  # yes | no | partly | not known
    sentence: str
    evidence: dict[str, Any] = {}


class Finding(msgspec.Struct):
    slug: str
    sentence: str
    saving_ms: float | None = None
    confidence: str = "not known"
    try_: str | None = msgspec.field(default=None, name="try")


class Share(msgspec.Struct):
    ms: float
    share: float


class Timeline(msgspec.Struct):
    """Device time by interval arithmetic, each a union of intervals; shares are of the window."""

    busy: Share
    idle: Share
    compute: Share
    communication: Share
    exposed_communication: Share
    memory_copy: Share
    span_ms: float | None = None


class Gap(msgspec.Struct):
    cause: str  # launch | data | synchronization | collective | stream | host | not known
    ms: float
    share: float
    count: int
    evidence: str = ""


class RankStep(msgspec.Struct):
    step: int
    ms: float
    timeline: Timeline | None = None


class Rank(msgspec.Struct):
    rank: int | None
    device: str | None
    timeline: Timeline | None = None
    steps: list[RankStep] = []
    gaps: list[Gap] = []
    source: str | None = None
    note: str = ""


class Presenter(Protocol):
    """What a Study needs to show itself; reports provide it, and `longpole/__init__.py` joins the two."""

    def text(self, study: Study) -> str:
        """The terminal report, without colour."""
        ...

    def html(self, study: Study) -> str:
        """A piece of HTML for a notebook's cell."""
        ...

    def page(self, study: Study) -> str:
        """The whole page."""
        ...


class _Shown:
    by: Presenter | None = None


def present_with(presenter: Presenter) -> None:
    """Studies print and display themselves with this from now on."""
    _Shown.by = presenter


class Study(msgspec.Struct):
    """What a run or a trace amounts to."""

    schema: str = SCHEMA
    version: int = VERSION
    headline: str = ""  # the sentence that names the long pole
    run: Run = msgspec.field(default_factory=Run)
    machine: Machine = msgspec.field(default_factory=Machine)
    step: Step = msgspec.field(default_factory=Step)
    phases: list[PhaseTime] = []
    bound_by: BoundShares | None = None  # None where the machine's ceilings were never measured
    layers: list[LayerTime] = []
    op_classes: list[OpClassTime] = []
    ops: list[OpTime] = []
    memory: Memory = msgspec.field(default_factory=Memory)
    answers: list[Answer] = []
    findings: list[Finding] = []
    ranks: list[Rank] = []
    communication: list[CommunicationTime] = []  # of traces of devices; of each rank
    rank_report: RankReport | None = None  # of several ranks
    critical_path: CriticalPath | None = None  # of one step, the longest rank's where there are several
    serial_chain: SerialChain | None = None  # None where no backward was seen on a step that divides gradients

    def __str__(self) -> str:
        return _Shown.by.text(self) if _Shown.by is not None else self.headline

    def _repr_html_(self) -> str | None:
        return _Shown.by.html(self) if _Shown.by is not None else None

    def to_json(self) -> bytes:
        """Indented UTF-8 JSON, as the design states it."""
        try:
            text = msgspec.json.encode(self)
        except UnicodeEncodeError:  # a file name that is no UTF-8 comes with halves of surrogate pairs
            text = msgspec.json.encode(_encodable(msgspec.to_builtins(self)))
        return msgspec.json.format(text, indent=1)

    def save(self, path: Path | str) -> None:
        """Writes the JSON, or the page where `path` ends in .html. Raises LongpoleError where it cannot."""
        place = Path(path)
        as_page = place.suffix in (".html", ".htm") and _Shown.by is not None
        data = _Shown.by.page(self).encode() if as_page and _Shown.by is not None else self.to_json()
        try:
            place.write_bytes(data)
        except OSError as error:
            raise LongpoleError(f"cannot write {place}: {error.strerror}; choose another place") from error


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(part) for key, part in value.items()}
    return [_encodable(part) for part in value] if isinstance(value, list) else value


def load_study(data: bytes, where: str) -> Study:
    """A Study from its JSON; raises LongpoleError where `data` is no study of a version known here."""
    return read_result(data, Study, (SCHEMA, VERSION), where)
