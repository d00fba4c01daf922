"""One script run in this process with something of ours put in when it imports torch, and asked afterwards."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from longpole.capture.imports import ImportWatch
from longpole.capture.launch import Outcome, Target, run

if TYPE_CHECKING:
    from collections.abc import Callable


class Watching(Protocol):
    """`start` when torch is there, `finish` when the script has ended."""

    def start(self) -> None: ...

    def finish(self) -> None: ...


Watch = TypeVar("Watch", bound=Watching)
Report = TypeVar("Report")


@dataclass(frozen=True, slots=True)
class WatchedRun(Generic[Report]):
    """How the script ended, and the result; None with a `problem` where there is none."""

    outcome: Outcome
    report: Report | None
    problem: str = ""


class NothingSeenError(Exception):
    """The script ran, and there was nothing to report; the text says why."""


def watch_run(
    target: Target, make: Callable[[], Watch], report_of: Callable[[Watch], Report], failed: str
) -> WatchedRun[Report]:
    """Runs the script to its end. Whatever fails in `make` or `report_of` becomes the problem and never the script's.

    `failed` is what to say before the name of an error in `report_of`; a NothingSeenError has words of its own.
    """
    watching: list[Watch] = []
    problems: list[str] = []
    process = os.getpid()

    def begin() -> None:
        try:
            watching.append(make())
            watching[0].start()
        except Exception as error:  # nothing may reach the script, which is in the middle of `import torch`
            problems.append(f"{type(error).__name__}: {error}")

    imports = ImportWatch("torch", begin)
    imports.start()
    outcome = run(target)
    imports.stop()
    if os.getpid() != process:  # a child that the script forked
        return WatchedRun(outcome, None)
    if watching:
        watching[0].finish()
    if problems or not watching:
        why = problems[0] if problems else "the script never imported torch, so there was no training to watch"
        return WatchedRun(outcome, None, why)
    try:
        return WatchedRun(outcome, report_of(watching[0]))
    except NothingSeenError as error:
        return WatchedRun(outcome, None, str(error))
    except Exception as error:  # a network of any kind may refuse to be looked at from outside
        return WatchedRun(outcome, None, f"{failed}: {type(error).__name__}: {error}")
