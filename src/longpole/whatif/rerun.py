"""Runs a script again in a process of its own, with changes applied from outside, and reads what was measured."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from longpole.analysis.study import Study, load_study
from longpole.errors import LongpoleError
from longpole.whatif.changes import Changes, tell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LAST_LINES = 3


@dataclass(frozen=True, slots=True)
class Rerun:
    """What one run of the script came to."""

    study: Study
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Request:
    """One run: the script with its arguments (or `-m`, the module and its arguments), and what to change."""

    target: Sequence[str]
    changes: Changes = field(default_factory=Changes)
    options: Sequence[str] = ("--stop",)  # of `longpole run`
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    timeout_s: float | None = None


def rerun(request: Request) -> Rerun:
    """The script under `longpole run`, to the end of the measured window.

    Raises LongpoleError where the script fails, gives nothing to measure, or takes longer than its time.
    """
    with tempfile.TemporaryDirectory(prefix="longpole-") as folder:
        place = Path(folder) / "study.json"
        own = [*request.options, "--quiet", "--no-save", "--json", str(place)]
        done = _run([sys.executable, "-m", "longpole", "run", *own, *request.target], request)
        if not place.exists():
            raise LongpoleError(f"{_shown(request)}: {_last_words(done)}")
        return Rerun(load_study(place.read_bytes(), _shown(request)), done.stdout, done.stderr)


def _run(command: list[str], request: Request) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **request.environment}
    tell(request.changes, environment)
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=request.timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LongpoleError(
            f"{_shown(request)}: no answer after {request.timeout_s:.0f} s; give it more time"
        ) from error


def _shown(request: Request) -> str:
    return " ".join(request.target[:3])


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    return f"ended with exit code {done.returncode} and nothing measured: {last_words(done.stderr)}"


def last_words(stderr: str) -> str:
    """The last lines that a process said, which mostly tell why it ended."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip(" \t^~")]  # carets point at a line above
    return " | ".join(lines[-LAST_LINES:]) or "no word said"
