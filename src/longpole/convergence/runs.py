"""Starts followed runs: a child process each, one after the other, and reads what they hand back."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from longpole.convergence.observed import Observed, Options
from longpole.errors import LongpoleError
from longpole.whatif.changes import Changes, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

LAST_LINES = 3
GRACE_S = 120.0  # a run past its budget ends at its next step; one whose step is longer than this is ended
MOST_WORDS_BYTES = 4000


@dataclass(frozen=True, slots=True)
class Way:
    """One way of training: the script with its arguments (or `-m`, the module and its arguments), and changes."""

    label: str
    target: Sequence[str]
    changes: Changes = field(default_factory=Changes)

    @property
    def script(self) -> str:
        return " ".join(self.target[:2]) if self.target[0] == "-m" else self.target[0]

    @property
    def argv(self) -> list[str]:
        return list(self.target[2 if self.target[0] == "-m" else 1 :])


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a run may be."""

    max_steps: int | None = None
    budget_s: float | None = None


def follow(way: Way, seed: int, limits: Limits, returned: str | None = None) -> Observed:
    """One training with this seed. Raises LongpoleError where it fails or no step of it is seen."""
    changes = msgspec.structs.replace(way.changes, seed=seed)
    with tempfile.TemporaryDirectory(prefix="longpole-") as folder:
        place, words = Path(folder) / "followed.json", Path(folder) / "stderr"
        options = Options(str(place), limits.max_steps, limits.budget_s, returned)
        code = _run(way, changes, options, words)
        if not place.exists():
            raise LongpoleError(f"{way.label}: ended with exit code {code}: {_last_words(words)}")
        observed = msgspec.json.decode(place.read_bytes(), type=Observed)
        if observed.problem:
            raise LongpoleError(f"{way.label}: {observed.problem}")
        if not observed.step_ends_ns:
            why = _last_words(words) if observed.stopped == "error" else "no optimizer stepped in this process"
            raise LongpoleError(f"{way.label}: no training step was seen: {why}")
        if observed.stopped == "error":
            observed.notes.append(f"the script failed after {len(observed.step_ends_ns)} steps: {_last_words(words)}")
        return observed


def _run(way: Way, changes: Changes, options: Options, words: Path) -> int:
    environment = dict(os.environ)
    tell(changes, environment)
    command = [sys.executable, "-m", "longpole.convergence.followed", msgspec.json.encode(options).decode()]
    with words.open("wb") as stderr:
        try:
            return subprocess.run(
                [*command, *way.target],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                timeout=None if options.budget_s is None else options.budget_s + GRACE_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise LongpoleError(
                f"{way.label}: no end after {options.budget_s or 0:.0f} s and {GRACE_S:.0f} s of grace; "
                "give a larger --budget or fewer --max-steps"
            ) from error


def _last_words(place: Path) -> str:
    with place.open("rb") as file:
        file.seek(max(place.stat().st_size - MOST_WORDS_BYTES, 0))
        text = file.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-LAST_LINES:]) or "no word said"
