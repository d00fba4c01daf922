"""Runs the points of a sweep, each in a process of its own, and keeps what is done so that it can go on later."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from longpole.errors import LongpoleError
from longpole.sweep.axes import Axis, Point, arguments_of, changes_of, order_of, points_of
from longpole.sweep.result import SweepRun, run_of
from longpole.whatif.rerun import Request, rerun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from longpole.analysis.study import Study

FILES = PLAN, RUNS, SWEEP, PAGE = "plan.json", "runs.jsonl", "sweep.json", "report.html"
MOST_BYTES = 1 << 30
LEAST_WINDOW_S, MOST_WINDOW_S = 5.0, 120.0
BESIDES_S = 120.0  # that a run may take before and after its window
LEAST_FAILURES = 2  # of different points before all of them are taken to fail


class Plan(msgspec.Struct, frozen=True):
    """What is measured. A folder goes on only with the plan that it was begun with."""

    script: str
    args: tuple[str, ...]
    is_module: bool
    axes: tuple[Axis, ...]
    rounds: int
    steps: int
    warmup: int
    source: str = ""  # SHA-256 of the script: an edited one is another one
    cores: int | None = None

    @property
    def points(self) -> list[Point]:
        return points_of(self.axes)


@dataclass(frozen=True, slots=True)
class Progress:
    """Told before each run (`run` is None) and after it."""

    number: int
    total: int
    point: Point
    run: SweepRun | None


def source_of(path: Path) -> str:
    """What tells one version of a script from another; "" where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def read_plan(folder: Path) -> Plan | None:
    """The plan of a folder; None where there is none that can be read."""
    try:
        return msgspec.json.decode((folder / PLAN).read_bytes(), type=Plan)
    except (OSError, msgspec.MsgspecError):
        return None


def begin(folder: Path, plan: Plan) -> list[SweepRun]:
    """Makes the folder this plan's, and returns the runs that are done there.

    Raises LongpoleError where the folder is another plan's.
    """
    before = read_plan(folder)
    if before is not None and before != plan:
        raise LongpoleError(f"{folder} holds another sweep, or one of another version of the script; name a new folder")
    if before is None and any((folder / name).exists() for name in FILES):
        raise LongpoleError(f"{folder} has files of something else in it; name a new folder with -o")
    done = _read_runs(folder, plan)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PLAN).write_bytes(msgspec.json.encode(plan))
        (folder / RUNS).write_bytes(b"".join(msgspec.json.encode(run) + b"\n" for run in done))
    except OSError as error:
        raise LongpoleError(f"cannot write {folder}: {error.strerror}; choose another place with -o") from error
    return done


def is_unfinished(folder: Path, plan: Plan) -> bool:
    """Whether the folder is this plan's and has runs left to do."""
    return read_plan(folder) == plan and bool(left_of(plan, _read_runs(folder, plan)))


def _read_runs(folder: Path, plan: Plan) -> list[SweepRun]:
    """A line that was cut in writing ends them."""
    try:
        path = folder / RUNS
        lines = path.read_bytes().splitlines() if path.stat().st_size <= MOST_BYTES else []
    except OSError:
        return []
    wanted = set(order_of(plan.points, plan.rounds))
    found: list[SweepRun] = []
    for line in lines:
        try:
            run = msgspec.json.decode(line, type=SweepRun)
        except msgspec.MsgspecError:
            break
        if (run.round, run.point) in wanted and run.step_ms is not None:
            found.append(run)
    return found


def left_of(plan: Plan, done: Sequence[SweepRun]) -> list[tuple[int, Point]]:
    """What is still to be run, in order; a point that failed is not tried again in later rounds."""
    have = {(run.round, run.point) for run in done}
    failed = {run.point for run in done if run.failed}
    return [entry for entry in order_of(plan.points, plan.rounds) if entry not in have and entry[1] not in failed]


def run_points(
    plan: Plan,
    folder: Path,
    done: Sequence[SweepRun],
    budget_s: float,
    clock: Callable[[], float],
    tell: Callable[[Progress], None],
) -> Iterator[SweepRun]:
    """The runs that are left, each kept in `folder` when it is there. None begins after `budget_s`.

    Raises LongpoleError with the script's last words where no point can be run.
    """
    began = clock()
    all_of_them = [*done]
    total = plan.rounds * len(plan.points)
    window_s = min(max(budget_s / total, LEAST_WINDOW_S), MOST_WINDOW_S)
    for round_, point in left_of(plan, done):
        left_s = budget_s - (clock() - began)
        if left_s <= 0:
            return
        if any(run.failed and run.point == point for run in all_of_them):
            continue
        tell(Progress(len(all_of_them) + 1, total, point, None))
        run = _one(plan, round_, point, window_s)
        all_of_them.append(run)
        _give_up(all_of_them, plan)
        if not run.failed:  # what failed is tried again when the sweep goes on
            _keep(folder, run)
        tell(Progress(len(all_of_them), total, point, run))
        yield run


def _one(plan: Plan, round_: int, point: Point, window_s: float) -> SweepRun:
    try:
        return run_of(measure(plan, point, window_s), round_, point)
    except LongpoleError as error:
        return SweepRun(round_, point.batch, point.threads, failed=str(error))


def measure(plan: Plan, point: Point, window_s: float) -> Study:
    """The script once, at this point. Raises LongpoleError where it cannot be measured."""
    args = arguments_of(point, plan.axes, plan.args)
    target = ["-m", plan.script, *args] if plan.is_module else [plan.script, *args]
    options = ["--stop", "--steps", str(plan.steps), "--warmup", str(plan.warmup), "--budget", f"{window_s:.1f}"]
    request = Request(target, changes_of(point, plan.axes), options, timeout_s=2 * window_s + BESIDES_S)
    return rerun(request).study


def _give_up(runs: Sequence[SweepRun], plan: Plan) -> None:
    failed = {run.point for run in runs if run.failed}
    if all(run.failed for run in runs) and len(failed) >= min(LEAST_FAILURES, len(plan.points)):
        raise LongpoleError(str(runs[-1].failed))


def _keep(folder: Path, run: SweepRun) -> None:
    """One write a line, so that a run that is stopped loses one at most."""
    try:
        with (folder / RUNS).open("ab") as file:
            file.write(msgspec.json.encode(run) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise LongpoleError(f"cannot write {folder / RUNS}: {error.strerror}; choose another place with -o") from error
