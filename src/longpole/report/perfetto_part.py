"""One trace of a timeline file: what is known of its events, and the numbers that keep it apart from other traces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.trace import Trace

# Process numbers that no host process or device has: Linux counts processes to 2^22 at most (proc(5), pid_max).
RANK_STRIDE, MARKS_PROCESS, NAMELESS_PROCESS = 100_000_000, 90_000_000, 90_000_001
NAMELESS_THREAD = 900_000_000


class Attributed(Protocol):
    """What analysis concluded of each event, an array each with as many rows as the event table; -1 is nothing."""

    @property
    def phase(self) -> NDArray[Any]: ...  # longpole.trace.kinds.Phase

    @property
    def layer(self) -> NDArray[Any]: ...  # row of Trace.layers, -1 for none

    @property
    def role(self) -> NDArray[Any]: ...  # longpole.trace.kinds.Role


@dataclass(frozen=True, slots=True)
class Part:
    """One trace of the file and the numbers that keep it apart from the others."""

    trace: Trace
    place: int  # 0 for the first trace
    attributed: Attributed | None

    def process(self, lane: int) -> int:
        found = self.trace.lanes[lane]
        own = found.device if found.device >= 0 else found.process if found.process >= 0 else NAMELESS_PROCESS
        return own + self.place * RANK_STRIDE

    def thread(self, lane: int) -> int:
        own = self.trace.lanes[lane].thread
        return own if own >= 0 else NAMELESS_THREAD + lane

    @property
    def marks(self) -> int:
        return MARKS_PROCESS + self.place * RANK_STRIDE
