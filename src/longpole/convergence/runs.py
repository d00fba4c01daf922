"""Starts followed runs: a child process each, one after the other, and reads what they hand back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from longpole.convergence.observed import Observed, Options, StopAt
from longpole.errors import LongpoleError
from longpole.whatif.changes import Changes, tell
from longpole.whatif.rerun import last_words

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPT_GRACE_S = 10.0  # the script has heard Ctrl-C, too, and may have something to put away
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
    stop_at: StopAt | None = None


class InterruptedRunError(KeyboardInterrupt):
    """Ctrl-C in the middle of a run; `observed` is what it had done, None where that is not known."""

    def __init__(self, observed: Observed | None) -> None:
        super().__init__()
        self.observed = observed


def follow(way: Way, seed: int, limits: Limits, returned: str | None = None) -> Observed:
    """One training with this seed. Raises LongpoleError where it fails or no step of it is seen."""
    changes = msgspec.structs.replace(way.changes, seed=seed)
    with tempfile.TemporaryDirectory(prefix="longpole-") as folder:
        place, words = Path(folder) / "followed.json", Path(folder) / "stderr"
        options = Options(str(place), limits.max_steps, limits.budget_s, returned, limits.stop_at)
        try:
            code = _run(way, changes, options, words)
        except KeyboardInterrupt as error:
            raise InterruptedRunError(_what_is_there(place)) from error
        if not place.exists():
            raise LongpoleError(f"{way.label}: ended with exit code {code}: {_last_words(words)}")
        observed = msgspec.json.decode(place.read_bytes(), type=Observed)
        if observed.problem:
            ended = f"; it ended with exit code {code}: {_last_words(words)}" if code else ""
            raise LongpoleError(f"{way.label}: {observed.problem}{ended}")
        if not observed.step_ends_ns:
            why = _last_words(words) if observed.stopped == "error" else "no optimizer stepped in this process"
            raise LongpoleError(f"{way.label}: no training step was seen: {why}")
        if observed.stopped == "error":
            observed.notes.append(f"the script failed after {len(observed.step_ends_ns)} steps: {_last_words(words)}")
        return observed


def _what_is_there(place: Path) -> Observed | None:
    """What an interrupted run left; None where it left nothing that can be read."""
    try:
        observed = msgspec.json.decode(place.read_bytes(), type=Observed)
    except (OSError, msgspec.MsgspecError):
        return None
    return observed if observed.step_ends_ns and not observed.problem else None


def _run(way: Way, changes: Changes, options: Options, words: Path) -> int:
    environment = dict(os.environ)
    tell(changes, environment)
    command = [sys.executable, "-m", "longpole.convergence.followed", msgspec.json.encode(options).decode()]
    with (
        words.open("wb") as stderr,
        subprocess.Popen(
            [*command, *way.target],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        ) as child,
    ):
        try:
            return child.wait(None if options.budget_s is None else options.budget_s + GRACE_S)
        except subprocess.TimeoutExpired as error:
            raise LongpoleError(
                f"{way.label}: no end after {options.budget_s or 0:.0f} s and {GRACE_S:.0f} s of grace; "
                "give a larger --budget or fewer --max-steps"
            ) from error
        except KeyboardInterrupt:
            _let_end(child)
            raise
        finally:
            child.kill()  # nothing, where it has ended


def _let_end(child: subprocess.Popen[bytes]) -> None:
    """A terminal sends Ctrl-C to the child as well; a second one is for those that do not want to wait for it."""
    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        child.wait(INTERRUPT_GRACE_S)


def _last_words(place: Path) -> str:
    with place.open("rb") as file:
        file.seek(max(place.stat().st_size - MOST_WORDS_BYTES, 0))
        return last_words(file.read().decode("utf-8", "replace"))
