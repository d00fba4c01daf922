"""What a study of traces says of devices that talk and wait: communication, ranks, the critical path.

Plain data, part of the stable JSON. Unlike phases and layers, these times are of the whole trace unless a
field says otherwise; None is not known.
"""

from __future__ import annotations

import msgspec


class CommunicationTime(msgspec.Struct):
    """Kernels of one operation in one process group on one rank."""

    group: str | None
    operation: str | None  # "all_reduce"; None where neither arguments nor the kernel's name say
    ranks: int | None  # size of the group
    count: int
    device_ms: float  # sum of the kernels' durations: it holds the wait for other ranks
    exposed_ms: float  # no compute kernel runs meanwhile; rows add up to the timeline's exposed communication
    bytes: int | None = None  # messages of the `counted` kernels together
    counted: int = 0  # kernels whose message and group are known: the bandwidths are theirs
    algorithm_bytes_per_s: float | None = None
    bus_bytes_per_s: float | None = None  # by nccl-tests' factors; too low where kernels waited for other ranks
    library: bool = True  # False: a framework's own kernel, which a timeline counts as compute
    rank: int | None = None


class ClockOffset(msgspec.Struct):
    """How one rank's clock was put on the reference rank's, by the ends of matching collectives."""

    rank: str
    offset_ms: float | None  # added to this rank's times; None: no collective in common with the others
    residual_ms: float | None  # median distance of a collective's aligned end from the reference's
    matched: int = 0  # collectives


class PhasePart(msgspec.Struct):
    phase: str
    ms: float  # more than in the middle of the other ranks; it may be less
    idle_ms: float  # of `ms`, idle before work of the phase: its host launched it late


class RankFigures(msgspec.Struct):
    """One rank beside the others; shares are of its device window, waits are per step where steps are known."""

    rank: str
    idle_share: float | None = None
    communication_share: float | None = None
    compute_share: float | None = None
    recorded_ms: float | None = None  # length of its device window
    late_start_ms: float | None = None  # its recording began that long after the earliest rank's
    host_step_ms: float | None = None  # median, between the starts of consecutive steps on its host
    queue_ms: float | None = None  # median from launch to start of a kernel: near 0, the device waits for the host
    host_bound_share: float | None = None  # of its kernels, started as soon as they were launched
    kernels: int = 0
    collectives: int = 0  # matched
    waited_ms: float | None = None  # inside collectives, for the last rank to arrive; a step
    transfer_ms: float | None = None  # inside collectives, after all had arrived; a step
    last: int = 0  # collectives in which it arrived last
    caused_ms: float | None = None  # what the others waited for it on average; a step
    before_arriving: list[PhasePart] = []  # where it lost the time, between one collective and the next; a step
    caused_by_step: dict[str, float] = {}  # step -> ms that the others waited for it on average


class CollectiveSkew(msgspec.Struct):
    """One operation in one group over the ranks: a kernel's time is its wait for the last rank, then transfer."""

    group: str | None
    operation: str | None
    ranks: int
    count: int
    wait_ms: float  # mean over the ranks, all collectives together
    transfer_ms: float
    worst_ms: float  # the longest time between first and last arrival
    bus_bytes_per_s: float | None = None  # over the transfer alone


class Straggler(msgspec.Struct):
    """A rank that makes the others wait."""

    rank: str
    ms: float  # a step (or altogether, where no steps are known) that each other rank waits for it, on average
    share: float  # of all such waiting
    since_step: str | None
    phase: str | None  # in which it was late
    idle_share: float  # of its lateness, its own device was idle: host late; the rest is device work
    sentence: str


class OddRank(msgspec.Struct):
    rank: str
    sentence: str
    why: list[str] = []


class RankReport(msgspec.Struct):
    """How the ranks of one run compare."""

    sentences: list[str] = []
    clocks: list[ClockOffset] = []
    ranks: list[RankFigures] = []
    collectives: list[CollectiveSkew] = []
    stragglers: list[Straggler] = []
    odd: list[OddRank] = []
    steps: int = 0  # by which sums were divided; 0: no steps known, sums are of the whole trace


class PathPart(msgspec.Struct):
    """A part of the critical path; `low` and `high` where synchronisation was not recorded."""

    what: str
    ms: float
    share: float  # of the path
    low: float | None = None  # of the shares without and with the possible edges
    high: float | None = None


class CriticalPath(msgspec.Struct):
    """The chain of work and waits that decided when the window ended; each list sums to `path_ms`."""

    window_ms: float
    path_ms: float
    sentence: str
    exact: bool  # False: some edges are only possible, and parts have bounds
    parts: list[PathPart] = []  # device | launch | host | gap | synchronization
    op_classes: list[PathPart] = []  # of device work and host ops; launch, gap, synchronization as they are
    phases: list[PathPart] = []
    layers: list[PathPart] = []  # empty where no layer is known
    ops: list[PathPart] = []  # the longest, by name
    ranks: list[PathPart] = []  # on which rank, where the path crosses ranks
    notes: list[str] = []
