"""What the process holds in RAM and the device's allocator holds on its device, read now and then.

On Linux the parts of the resident set are told apart: files mapped into it, what the C library has handed out, what
it keeps for later. Elsewhere only the whole is known.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import psutil
import torch

READ_EVERY_NS = 500_000
UNKNOWN = -1


class Reader:
    """Columns of readings, one at most every half a millisecond. `device` is where the tensors of interest are."""

    def __init__(self) -> None:
        self.times_ns: list[int] = []
        self.resident_bytes: list[int] = []
        self.device_bytes: list[int] = []
        self.device = "cuda" if torch.cuda.is_initialized() else "cpu"
        self._process = psutil.Process()
        self._peak_before = device_peak() if self.device == "cuda" else UNKNOWN

    def read(self, now_ns: int) -> None:
        if self.times_ns and now_ns - self.times_ns[-1] < READ_EVERY_NS:
            return
        self.times_ns.append(now_ns)
        self.resident_bytes.append(resident_bytes(self._process))
        self.device_bytes.append(device_allocated() if self.device == "cuda" else UNKNOWN)

    @property
    def device_peak_bytes(self) -> int:
        """The allocator's own peak in this step, where it can be known: its counter is the script's to reset, so a
        step that stays below an earlier one leaves no mark in it; then the largest reading."""
        if self.device != "cuda":
            return UNKNOWN
        peak = device_peak()
        return peak if peak > self._peak_before else max(self.device_bytes, default=UNKNOWN)


def resident_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except (psutil.Error, OSError):
        return UNKNOWN


def device_allocated() -> int:
    """Bytes of live tensors on the current device, as its caching allocator counts them."""
    return int(torch.cuda.memory_allocated())


def device_peak() -> int:
    return int(torch.cuda.max_memory_allocated())


class _MallInfo(ctypes.Structure):
    """struct mallinfo2 of glibc 2.33 and later (malloc.h)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@functools.cache
def _mallinfo() -> Any:
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError, TypeError):
        return None
    function.restype = _MallInfo
    return function


def parts_of_process() -> dict[str, int]:
    """`resident`, and of it `files` (code and mapped files); what malloc handed out (`malloc_used`) and keeps for
    later (`malloc_free`); `device_allocated` and `device_reserved` of the caching allocator. What is not known is
    left out."""
    found: dict[str, int] = {}
    resident = resident_bytes(psutil.Process())
    if resident >= 0:
        found["resident"] = resident
    found |= _linux_parts()
    function = _mallinfo()
    if function is not None:
        info = function()
        found["malloc_used"] = int(info.uordblks) + int(info.hblkhd)
        found["malloc_free"] = int(info.fordblks)
    if torch.cuda.is_initialized():
        found["device_allocated"] = device_allocated()
        found["device_reserved"] = int(torch.cuda.memory_reserved())
    return found


def _linux_parts() -> dict[str, int]:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    names = {"RssFile": "files", "RssShmem": "shared"}
    found: dict[str, int] = {}
    for line in lines:
        name, _, rest = line.partition(":")
        if name in names:
            found[names[name]] = int(rest.split()[0]) * 1024
    return found
