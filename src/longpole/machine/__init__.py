"""What hardware could do: data-sheet peaks, ceilings as measured, and the least time they allow."""

from __future__ import annotations

from longpole.machine.ceilings import Ceilings, load_ceilings, save_ceilings
from longpole.machine.peaks import PEAKS, Peak, peak_of
from longpole.machine.roofline import Limits, bound_ms, ceilings_from_sheet, limits

__all__ = [
    "PEAKS",
    "Ceilings",
    "Limits",
    "Peak",
    "bound_ms",
    "ceilings_from_sheet",
    "limits",
    "load_ceilings",
    "peak_of",
    "save_ceilings",
]
