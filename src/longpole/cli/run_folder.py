"""The folder of a run, `longpole-runs/NAME-0001/`, and the places the user chose instead."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from longpole.errors import LongpoleError

RUNS = Path("longpole-runs")
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Places:
    """Where each output goes; None: nowhere."""

    json: Path | None = None
    html: Path | None = None
    perfetto: Path | None = None
    trace: Path | None = None
    folder: Path | None = None
    json_to_stdout: bool = False


def new_folder(name: str) -> Path:
    """A new numbered folder. Raises LongpoleError where none can be made."""
    for number in range(1, MOST):
        folder = RUNS / f"{name}-{number:04d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise LongpoleError(
                f"cannot make {folder}: {error.strerror}; use -o PATH for another place, or --no-save"
            ) from error
        return folder
    raise LongpoleError(f"{RUNS} has {MOST} runs of {name}; remove some")


def check_writable(path: Path, option: str) -> Path:
    """The path, if a file can be written there. Raises LongpoleError with what to do otherwise."""
    if path.is_dir():
        raise LongpoleError(f"{option} {path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise LongpoleError(f"{option} {path}: there is no folder {path.parent}; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise LongpoleError(f"{option} {path}: cannot be written; choose another place")
    return path


def of_rank(path: Path | None, rank: int) -> Path | None:
    """`out.json` of rank 2 is `out.rank2.json`: ranks must not write into one file."""
    if path is None or rank == 0:
        return path
    return path.with_name(f"{path.stem}.rank{rank}{path.suffix}")
