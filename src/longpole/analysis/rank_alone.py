"""What comparing a rank with others needs of it, found without them: by the process that read its trace, say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from longpole.analysis.communication import collective_kernels
from longpole.analysis.rank_host import host_of
from longpole.analysis.rhythm import find_steps
from longpole.analysis.timeline import device_window, timeline
from longpole.trace import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.communication import CollectiveKernels
    from longpole.analysis.rank_host import Host
    from longpole.analysis.study import Timeline
    from longpole.trace import StepWindow, Trace


@dataclass(frozen=True, slots=True)
class Alone:
    """Small beside the trace: a few numbers for each collective and step."""

    collectives: CollectiveKernels
    steps: Sequence[StepWindow]
    host: Host
    window: tuple[int, int] | None  # of its device work, ns on its own clock
    timeline: Timeline | None  # of that window
    kernels: int


def alone_of(
    trace: Trace, collectives: CollectiveKernels | None = None, whole_timeline: Timeline | None = None
) -> Alone:
    """All of it; `collectives` and `whole_timeline` are the trace's, where they are known already."""
    steps = find_steps(trace)[0]
    return Alone(
        collectives=collectives if collectives is not None else collective_kernels(trace),
        steps=steps,
        host=host_of(trace, steps),
        window=device_window(trace),
        timeline=whole_timeline if whole_timeline is not None else timeline(trace),
        kernels=len(trace.events.rows_of(Kind.KERNEL)),
    )
