"""The survey itself: every network in turn, round by round, so that a drift of the machine meets all alike."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from longpole.analysis.survey import Figures, Survey
from longpole.errors import LongpoleError
from longpole.machine.hardware import read_hardware
from longpole.survey import kept as keeping
from longpole.survey.parallel import SETTINGS, asked_elsewhere
from longpole.survey.rows import Measured, rows_of
from longpole.survey.run_one import Asked, run_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from longpole.survey.catalogue import Network


NOT_RUN = "not run: the survey was interrupted before"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, how often, and where results are kept."""

    networks: Sequence[Network]
    asked: Asked
    rounds: int
    folder: Path
    parallel: bool = True  # also with a smaller batch, and with other threads

    @property
    def others(self) -> int:
        """How often each network runs in each other setting."""
        return max(self.rounds // 2, 1) if self.parallel else 0


@dataclass(frozen=True, slots=True)
class _Run:
    """One run to be made; `setting` is None for the network as it is."""

    kept: keeping.Kept
    setting: str | None = None


@dataclass(slots=True)
class Progress:
    """Told before each run: the network, how many runs are done, and how many there are."""

    tell: Callable[[str, int, int], None] = lambda _network, _done, _whole: None
    measure: Callable[[str, Asked], Figures] = run_one
    clock: Callable[[], float] = time.monotonic
    failures: dict[str, str] = field(default_factory=dict[str, str])
    not_known: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])  # network, setting: why


def survey(plan: Plan, progress: Progress | None = None) -> Survey:
    """Runs what is not yet kept. A network that fails is a row that says why.

    After Ctrl-C, what is measured by then. Raises KeyboardInterrupt where that is nothing.
    """
    progress = progress or Progress()
    now = keeping.conditions(plan.asked.threads, plan.asked.budget_s)
    size = plan.asked.size
    found = {
        one.name: keeping.load(plan.folder, one.name, size, keeping.built_by(now, one.needs)) for one in plan.networks
    }
    todo = [run for turn in range(plan.rounds) for kept in found.values() for run in _turn(kept, turn, plan)]
    try:
        _make_all(todo, plan, progress)
    except KeyboardInterrupt:
        if not any(kept.runs for kept in found.values()):
            raise
        _say_what_is_missing(found.values(), plan, progress)
        return _result(plan, found, progress, interrupted=True)
    return _result(plan, found, progress)


def _make_all(todo: Sequence[_Run], plan: Plan, progress: Progress) -> None:
    for done, run in enumerate(todo):
        if run.kept.network in progress.failures:
            continue
        progress.tell(run.kept.network, done, len(todo))
        _make(run, plan, progress)


def _say_what_is_missing(found: Iterable[keeping.Kept], plan: Plan, progress: Progress) -> None:
    for kept in found:
        if not kept.runs:
            progress.failures.setdefault(kept.network, NOT_RUN)
        elif plan.parallel:
            why = progress.not_known.setdefault(kept.network, {})
            why |= {name: NOT_RUN for name in SETTINGS if name not in kept.others and name not in why}


def _turn(kept: keeping.Kept, turn: int, plan: Plan) -> list[_Run]:
    """What this network runs in this turn: as it is, then in other settings, for as many turns as these have."""
    runs = [_Run(kept)] if len(kept.runs) <= turn else []
    others = SETTINGS if turn < plan.others else ()
    return runs + [_Run(kept, name) for name in others if len(kept.others.get(name, ())) <= turn]


def _make(run: _Run, plan: Plan, progress: Progress) -> None:
    """Another setting that fails leaves its own figure unknown; the network as it is that fails, all of them."""
    kept, why = run.kept, progress.not_known.setdefault(run.kept.network, {})
    if run.setting in why:
        return
    began = progress.clock()
    try:
        figures = progress.measure(kept.network, _asked(run, plan))
    except LongpoleError as error:
        if run.setting is None:
            progress.failures[kept.network] = str(error)
        else:
            why[run.setting] = str(error)
        return
    (kept.runs if run.setting is None else kept.others.setdefault(run.setting, [])).append(figures)
    kept.seconds += progress.clock() - began
    keeping.save(plan.folder, kept)


def _asked(run: _Run, plan: Plan) -> Asked:
    """Raises LongpoleError where the network or the machine has no such setting."""
    if run.setting is None:
        return plan.asked
    return asked_elsewhere(plan.asked, run.kept.runs[0], run.setting, read_hardware().cores)


def _result(plan: Plan, found: dict[str, keeping.Kept], progress: Progress, *, interrupted: bool = False) -> Survey:
    measured = [_measured(one, plan, found[one.name], progress) for one in plan.networks]
    runs = [run for one in measured for run in one.runs]
    hardware = read_hardware()
    return Survey(
        date=date.today().isoformat(),
        machine=hardware.processor,
        cores=hardware.cores,
        threads=runs[0].threads if runs else None,
        framework=runs[0].framework if runs else None,
        size=plan.asked.size,
        runs=max((len(one.runs) for one in measured), default=0),
        rows=rows_of(measured),
        interrupted=interrupted,
    )


def _measured(network: Network, plan: Plan, kept: keeping.Kept, progress: Progress) -> Measured:
    return Measured(
        network,
        plan.asked.size,
        kept.runs,
        progress.failures.get(network.name),
        kept.seconds,
        kept.others if plan.parallel else {},
        progress.not_known.get(network.name, {}),
    )
