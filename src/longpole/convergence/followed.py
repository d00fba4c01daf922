"""The child process: a script, run as `python` would run it, followed to its end or to its last wanted step.

    python -m longpole.convergence.followed OPTIONS_AS_JSON {SCRIPT.py | -m MODULE} [ARGS]...

The script's own output and exit code are its own; what was followed goes to a file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from longpole.capture.imports import ImportWatch
from longpole.capture.launch import Outcome, Target, leave, run
from longpole.convergence.observed import Observed, Options
from longpole.errors import LongpoleError
from longpole.trace.clock import monotonic_ns
from longpole.whatif.changes import Changes, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.convergence.follow import Follower
    from longpole.convergence.reached import TargetWatch


class Following:
    """Waits for torch, applies the changes, and follows; what fails in here never reaches the script."""

    def __init__(self, options: Options, changes: Changes) -> None:
        self.follower: Follower | None = None
        self.problem: str | None = None
        self._options = options
        self._changes = changes
        self._unmet: list[Callable[[], str | None]] = []  # to be asked when the script has trained
        self._process = os.getpid()
        self._watch = ImportWatch("torch", self._torch_is_there)

    def begin(self) -> None:
        self._watch.start()

    def end(self, outcome: Outcome) -> Observed | None:
        """What was followed; None in a child that the script forked."""
        self._watch.stop()
        if os.getpid() != self._process:
            return None
        if self.follower is None:
            return Observed(problem=self.problem or "the script never imported torch")
        self.follower.stop()
        observed = self.follower.observed()
        observed.problem = self.problem or self._not_made(observed)
        if outcome.how == "interrupt":
            observed.stopped = "interrupt"
        elif outcome.how != "script end" or (outcome.exit_code and observed.stopped == "script end"):
            observed.stopped = "error"
        observed.following_ns = _cost(observed, self.follower)
        observed.notes += _notes()
        return observed

    def _not_made(self, observed: Observed) -> str | None:
        """Why a change could not be made, of a script that trained."""
        if not observed.step_ends_ns:
            return None
        return next((reason for ask in self._unmet if (reason := ask())), None)

    def _torch_is_there(self) -> None:
        try:
            if self._changes.are_any:
                from longpole.apply import apply

                self._unmet = apply(self._changes)
            from longpole.convergence.follow import Follower

            budget = self._options.budget_s
            deadline = None if budget is None else monotonic_ns() + int(budget * 1e9)
            follower = Follower(self._options.max_steps, deadline, self._options.returned, _watch(self._options))
            follower.listen()
            follower.start()
            self.follower = follower
        except LongpoleError as error:
            self.problem = str(error)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"


def _watch(options: Options) -> TargetWatch | None:
    from longpole.convergence.reached import TargetWatch

    return None if options.stop_at is None else TargetWatch(options.stop_at)


def _notes() -> list[str]:
    """What the applied changes have to say."""
    notes = sys.modules.get("longpole.apply.notes")
    return list(notes.said) if notes is not None else []


def _cost(observed: Observed, follower: Follower) -> float:
    from longpole.convergence.following_cost import following_ns

    steps = max(len(observed.step_ends_ns), 1)
    looking = 0 if follower.watch is None else follower.watch.looking_ns
    return following_ns(follower.backwards / steps, len(observed.texts) / steps) + looking / steps


def main(argv: list[str]) -> None:
    options = msgspec.json.decode(argv[0], type=Options)
    is_module = argv[1] == "-m"
    words = argv[2:] if is_module else argv[1:]
    following = Following(options, told())
    following.begin()
    outcome = run(Target(words[0], words[1:], is_module=is_module))
    observed = following.end(outcome)
    if observed is not None:
        Path(options.result).write_bytes(msgspec.json.encode(observed))
    leave(outcome)


if __name__ == "__main__":
    main(sys.argv[1:])
