"""Runs that were measured stay on disk, one file a network, so that a survey goes on where it stopped."""

from __future__ import annotations

import os
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import longpole
from longpole.analysis.survey import Figures
from longpole.errors import LongpoleError
from longpole.machine.hardware import read_hardware

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = "longpole.survey.network"
DEFAULT = Path("longpole-runs") / "survey"


class Conditions(msgspec.Struct, frozen=True):
    """What must be the same for runs to belong together."""

    hardware: str
    threads: str
    torch: str
    longpole: str
    networks: str  # digest of the files that they are built by
    budget_s: float


class Kept(msgspec.Struct):
    """The file of one network at one size."""

    network: str
    size: str
    conditions: Conditions
    runs: list[Figures] = []
    others: dict[str, list[Figures]] = {}  # with a smaller batch ("batch"), with other threads ("threads")
    seconds: float = 0.0
    schema: str = SCHEMA


def conditions(threads: int | None, budget_s: float) -> Conditions:
    """Those of now. Raises LongpoleError where torch is not installed."""
    try:
        torch = version("torch")
    except PackageNotFoundError as error:
        raise LongpoleError("the survey trains networks and needs torch: pip install torch") from error
    said = str(threads) if threads else f"default, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')}"
    return Conditions(read_hardware().key(), said, torch, longpole.__version__, _digest(), budget_s)


def built_by(now: Conditions, package: str | None) -> Conditions:
    """The same for a network that this package builds: its version counts, too."""
    return now if package is None else msgspec.structs.replace(now, torch=f"{now.torch}, {package} {version(package)}")


def _digest() -> str:
    folder = Path(__file__).parent
    places = [folder / "train.py", *sorted((folder / "networks").glob("*.py"))]
    return sha256(b"".join(place.read_bytes() for place in places)).hexdigest()[:16]


def load(folder: Path, network: str, size: str, now: Conditions) -> Kept:
    """What is kept of the network under these conditions; of others, or of a file that cannot be read, nothing."""
    fresh = Kept(network, size, now)
    try:
        found = msgspec.json.decode(_place(folder, network, size).read_bytes(), type=Kept)
    except (OSError, msgspec.MsgspecError):
        return fresh
    same = (found.schema, found.network, found.size, found.conditions) == (SCHEMA, network, size, now)
    runs = [*found.runs, *(run for others in found.others.values() for run in others)]
    return found if same and all(map(_is_sound, runs)) else fresh


def _is_sound(run: Figures) -> bool:
    """What a file that somebody edited may not hold: a step of no time, a phase of less."""
    return run.step_ms > 0 and run.median_ms > 0 and all(ms >= 0 for ms in run.phases_ms.values())


def save(folder: Path, kept: Kept) -> None:
    """Writes the file whole or not at all. Raises LongpoleError where it cannot."""
    place = _place(folder, kept.network, kept.size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = place.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode(kept))
        beside.replace(place)
    except OSError as error:
        raise LongpoleError(f"cannot keep results in {folder}: {error.strerror}; use -o FOLDER") from error


def forget(folder: Path, networks: Sequence[str], size: str) -> None:
    """Removes what is kept of these networks at this size."""
    for network in networks:
        _place(folder, network, size).unlink(missing_ok=True)


def _place(folder: Path, network: str, size: str) -> Path:
    return folder / f"{network}-{size}.json"
