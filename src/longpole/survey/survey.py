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
from longpole.survey.rows import Measured, rows_of
from longpole.survey.run_one import Asked, run_one

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from longpole.survey.catalogue import Network


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, how often, and where results are kept."""

    networks: Sequence[Network]
    asked: Asked
    rounds: int
    folder: Path


@dataclass(slots=True)
class Progress:
    """Told before each run: the network, how many runs are done, and how many there are."""

    tell: Callable[[str, int, int], None] = lambda _network, _done, _whole: None
    measure: Callable[[str, Asked], Figures] = run_one
    clock: Callable[[], float] = time.monotonic
    failures: dict[str, str] = field(default_factory=dict[str, str])


def survey(plan: Plan, progress: Progress | None = None) -> Survey:
    """Runs what is not yet kept. A network that fails is a row that says why; interrupted, what is done is kept."""
    progress = progress or Progress()
    now = keeping.conditions(plan.asked.threads, plan.asked.budget_s)
    found = {one.name: keeping.load(plan.folder, one.name, plan.asked.size, now) for one in plan.networks}
    todo = [kept for turn in range(plan.rounds) for kept in found.values() if len(kept.runs) <= turn]
    for done, kept in enumerate(todo):
        if kept.network in progress.failures:
            continue
        progress.tell(kept.network, done, len(todo))
        _run(kept, plan, progress)
    return _result(plan, found, progress.failures)


def _run(kept: keeping.Kept, plan: Plan, progress: Progress) -> None:
    began = progress.clock()
    try:
        figures = progress.measure(kept.network, plan.asked)
    except LongpoleError as error:
        progress.failures[kept.network] = str(error)
        return
    kept.runs.append(figures)
    kept.seconds += progress.clock() - began
    keeping.save(plan.folder, kept)


def _result(plan: Plan, found: dict[str, keeping.Kept], failures: dict[str, str]) -> Survey:
    measured = [
        Measured(one, plan.asked.size, found[one.name].runs, failures.get(one.name), found[one.name].seconds)
        for one in plan.networks
    ]
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
    )
