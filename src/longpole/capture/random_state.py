"""The script's random numbers, kept from what is done between two of its lines. Imports no torch."""

from __future__ import annotations

import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def undrawn() -> Generator[None]:
    """On leaving, the generators of Python, numpy and torch (CPU) are where they were.

    It takes no call of ours to draw: `rich.style` draws from Python's generator when it is imported.
    """
    python, numpy, torch = random.getstate(), sys.modules.get("numpy.random"), sys.modules.get("torch")
    of_numpy = numpy.get_state() if numpy is not None else None
    of_torch = torch.get_rng_state() if torch is not None and hasattr(torch, "get_rng_state") else None
    try:
        yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.set_state(of_numpy)
        if torch is not None and of_torch is not None:
            torch.set_rng_state(of_torch)
