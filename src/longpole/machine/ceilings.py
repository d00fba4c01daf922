"""What this machine was measured to do, and the file it is kept in, keyed by hardware, threads and torch."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from longpole.errors import LongpoleError
from longpole.machine.hardware import Hardware, read_hardware

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = "longpole.ceilings"
VERSION = 1
UNBOUNDED = "memory"  # the level beyond every cache


class Rate(msgspec.Struct, frozen=True):
    """One measured rate. The ceiling is the fastest sample: anything slower can be beaten on a quieter day."""

    name: str  # "fp32 matmul", "L2 copy", "all_reduce 2 ranks"
    best: float  # operations or bytes a second
    median: float
    low: float  # quartiles
    high: float
    samples: int
    how: str  # "1024 x 1024 x 1024", "2 x 320 KiB, 2 threads"


class Delay(msgspec.Struct, frozen=True):
    """One measured cost of doing anything at all, in nanoseconds; the least sample is the floor."""

    name: str
    least_ns: float
    median_ns: float
    low_ns: float
    high_ns: float
    samples: int
    how: str


class Level(msgspec.Struct, frozen=True):
    """One level of memory that ops can be served from."""

    name: str  # "L1", "L2", "L3", "memory"
    capacity_bytes: int | None  # of all threads used together; None for main memory
    best_bytes_per_s: float
    rates: tuple[Rate, ...] = ()  # read, copy, triad, ...


class Ceilings(msgspec.Struct, frozen=True):
    """Everything measured on one machine with one number of threads and one torch."""

    hardware: Hardware
    threads: int
    torch: str
    device: str = "cpu"
    compute: dict[str, list[Rate]] = {}  # dtype ("fp32") -> matmul, convolution
    levels: list[Level] = []  # nearest first, "memory" last
    delays: dict[str, Delay] = {}  # "op", "autograd_node", "module_call", "launch"
    links: list[Rate] = []  # all-reduce, host-device copies
    link_delays: list[Delay] = []
    not_measured: dict[str, str] = {}  # what, and why
    busy_share: float | None = None  # of all processors' time, what other processes used meanwhile
    seconds: float = 0.0
    measured_at: str = ""
    schema: str = SCHEMA
    version: int = VERSION

    def flops_per_s(self, dtype: str) -> float | None:
        """The best that any operation reached with this type ("fp32", "bf16"), or None."""
        return max((rate.best for rate in self.compute.get(dtype, [])), default=None)


def cache_folder() -> Path:
    """Where ceilings are kept: `$LONGPOLE_CACHE`, or `longpole` in the user's cache directory."""
    given = os.environ.get("LONGPOLE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longpole"


def installed_torch() -> str:
    """The installed torch's version, without importing it; "" where there is none."""
    from importlib import metadata  # here, since opening a trace imports this module, and it brings `email` along

    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


def path_of(hardware: Hardware, threads: int, torch: str, device: str = "cpu") -> Path:
    """The file for this key."""
    key = f"{hardware.key()}|{torch}|{device}"
    return cache_folder() / f"ceilings-{sha256(key.encode()).hexdigest()[:12]}-{threads}.json"


def save_ceilings(found: Ceilings) -> Path:
    """Writes the file; raises LongpoleError where the cache directory cannot be written."""
    path = path_of(found.hardware, found.threads, found.torch, found.device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
        scratch.replace(path)
    except OSError as error:
        raise LongpoleError(
            f"cannot keep the ceilings in {path.parent}: {error.strerror}; set LONGPOLE_CACHE to another folder"
        ) from error
    return path


def load_ceilings(threads: int | None = None, torch: str | None = None, device: str = "cpu") -> Ceilings | None:
    """What `longpole machine` measured here, or None where it never ran for this hardware, torch and threads.

    Without `threads`, the measurement with most threads. A file that cannot be read counts as none: measuring
    again replaces it.
    """
    hardware = read_hardware()
    version = installed_torch() if torch is None else torch
    if threads is not None:
        return _read(path_of(hardware, threads, version, device))
    one = path_of(hardware, 1, version, device)
    found = [_read(path) for path in one.parent.glob(one.name.replace("-1.json", "-*.json"))]
    return max((each for each in found if each is not None), key=lambda each: each.threads, default=None)


def better_of(new: Ceilings, old: Ceilings) -> Ceilings:
    """The new measurement, with what the old one did faster: a rate once reached can be reached.

    Both must be of one key. On a machine that others use too, this is how ceilings approach the truth.
    """
    compute = {
        name: _faster(new.compute.get(name, []), old.compute.get(name, [])) for name in {**new.compute, **old.compute}
    }
    known = {level.name: level for level in old.levels}
    levels = [_better_level(level, known.get(level.name)) for level in new.levels]
    delays = {
        name: min((each.delays[name] for each in (new, old) if name in each.delays), key=lambda delay: delay.least_ns)
        for name in {**new.delays, **old.delays}
    }
    return msgspec.structs.replace(
        new, compute=compute, levels=levels, delays=delays, links=_faster(new.links, old.links)
    )


def _faster(new: Sequence[Rate], old: Sequence[Rate]) -> list[Rate]:
    best: dict[tuple[str, str], Rate] = {}
    for rate in (*new, *old):
        key = (rate.name, rate.how if "bus" in rate.how else "")
        best[key] = max(best.get(key, rate), rate, key=lambda each: each.best)
    return list(best.values())


def _better_level(new: Level, old: Level | None) -> Level:
    if old is None or old.capacity_bytes != new.capacity_bytes:
        return new
    rates = tuple(_faster(new.rates, old.rates))
    return Level(new.name, new.capacity_bytes, max(new.best_bytes_per_s, old.best_bytes_per_s), rates)


def _read(path: Path) -> Ceilings | None:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Ceilings)
    except (OSError, msgspec.MsgspecError):
        return None
    return found if found.schema == SCHEMA and found.version == VERSION else None
