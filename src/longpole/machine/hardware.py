"""What the machine says it is: processor, cores, caches, memory. Read from the system, no tool is run."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec

_CPU = Path("/sys/devices/system/cpu")
_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


class Cache(msgspec.Struct, frozen=True):
    """One cache level."""

    level: int
    bytes_each: int
    shared_by: int  # logical processors that share one
    count: int  # how many of them the machine has


class Hardware(msgspec.Struct, frozen=True):
    """The parts of a machine that decide its ceilings."""

    processor: str
    cores: int  # that this process may use
    memory_bytes: int
    caches: tuple[Cache, ...] = ()
    features: tuple[str, ...] = ()  # of those that decide matmul speed

    def key(self) -> str:
        """Tells machines apart, for the name of a file."""
        caches = ",".join(f"L{c.level}:{c.bytes_each}x{c.count}" for c in self.caches)
        return f"{self.processor}|{self.cores}|{caches}|{','.join(self.features)}"

    def cache_bytes(self, level: int, threads: int) -> int | None:
        """Capacity of a level that `threads` threads have together, or None where there is no such level."""
        for cache in self.caches:
            if cache.level == level:
                return cache.bytes_each * min(cache.count, threads)
        return None


_FEATURES = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "avx512_fp16",
    "amx_fp16",
    "asimd",
    "asimdhp",
    "asimddp",
    "sve",
    "bf16",
    "i8mm",
)
# Any of these features and the processor multiplies the type itself (Linux, Documentation/arch/arm64/elf_hwcaps.rst
# and arch/x86/include/asm/cpufeatures.h).
_ARITHMETIC = {
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "fp16": {"avx512_fp16", "amx_fp16", "asimdhp"},
    "int8": {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"},
}


def converts(hardware: Hardware, dtype: str) -> bool:
    """Whether the processor is known to lack arithmetic of the type, so that it converts to another and back."""
    return dtype in _ARITHMETIC and bool(hardware.features) and _ARITHMETIC[dtype].isdisjoint(hardware.features)


def read_hardware() -> Hardware:
    """This machine; what the system does not tell is left out."""
    processor, features = _processor()
    return Hardware(
        processor=processor,
        cores=usable_cores(),
        memory_bytes=_memory_bytes(),
        caches=_caches(),
        features=tuple(feature for feature in _FEATURES if feature in features),
    )


def _memory_bytes() -> int:
    import psutil  # here, since opening a trace imports this module and needs none of it

    return psutil.virtual_memory().total


def usable_cores() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> tuple[str, set[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine(), set()
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    named = {name.strip(): value.strip() for name, value in fields.items()}
    flags = set((named.get("flags") or named.get("Features") or "").split())
    return named.get("model name") or platform.machine(), flags


def _caches() -> tuple[Cache, ...]:
    """Data and unified caches of the first processor, and how many of each the machine has."""
    found: dict[int, Cache] = {}
    for folder in sorted((_CPU / "cpu0" / "cache").glob("index*")):
        try:
            if (folder / "type").read_text().strip() == "Instruction":
                continue
            level = int((folder / "level").read_text())
            text = (folder / "size").read_text().strip()
            shared = _count((folder / "shared_cpu_list").read_text())
        except (OSError, ValueError):
            continue
        size = int(text[:-1]) * _UNITS.get(text[-1], 1) if text[-1] in _UNITS else int(text)
        found[level] = Cache(level, size, shared, max(1, (os.cpu_count() or 1) // shared))
    return tuple(found[level] for level in sorted(found))


def _count(listing: str) -> int:
    """Members of a list of ranges: "0-3,8" is 5."""
    total = 0
    for part in listing.strip().split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return max(1, total)
