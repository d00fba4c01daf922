"""What an op between two marks is for: what the sampling thread saw at the same part of the same gap."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.segments import segments_of, steps_at
from longpole.trace import Level, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from longpole.analysis.segments import GapKey, Mark
    from longpole.trace import Trace

LEAST_SAMPLES = 3  # in a gap: fewer tell too little of where one thing ends and the next begins
TOLD = (Phase.DATA, Phase.OPTIMIZER, Phase.NOBODY)  # by the line; what makes autograd nodes is told by these


class GapPhases:
    """Samples in gaps between marks, by how far into the gap they fell: from 0, its begin, to 1, its end."""

    def __init__(self, trace: Trace, marks: Mapping[int, Sequence[Mark]]) -> None:
        found: dict[GapKey, list[tuple[float, int]]] = defaultdict(list)
        for step in steps_at(trace, Level.SITES):
            segments = segments_of(step, marks[step.index])
            starts = [segment.start_ns for segment in segments]
            first, last = np.searchsorted(trace.samples.time_ns, [step.start_ns, step.end_ns])
            for row in range(int(first), int(last)):
                time_ns = int(trace.samples.time_ns[row])
                segment = segments[max(int(np.searchsorted(starts, time_ns, side="right")) - 1, 0)]
                if segment.gap is not None:
                    found[segment.gap].append((segment.part_at(time_ns), int(trace.samples.flow[row])))
        self._seen = {gap: sorted(seen) for gap, seen in found.items() if len(seen) >= LEAST_SAMPLES}

    def at(self, gap: GapKey, part: float) -> Phase | None:
        """The phase that the nearest sample saw; None where too few saw this gap, or the line does not say."""
        seen = self._seen.get(gap)
        if not seen:
            return None
        phase = Phase(min(seen, key=lambda sample: abs(sample[0] - part))[1])
        if phase not in TOLD:
            return None
        return phase or Phase.OTHER
