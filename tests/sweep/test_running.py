"""Sweeps with made-up runs: order, resuming, failures, budgets, and what is printed. One real one at the end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from textwrap import dedent
from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import CliRunner

from longpole.analysis.serial_chain import SerialChain
from longpole.analysis.study import LayerTime, OpClassTime, PhaseTime, Run, Spread, Step, Study
from longpole.cli.main import cli
from longpole.errors import LongpoleError
from longpole.report.sweep import sweep_screen, sweep_text
from longpole.report.sweep_page import sweep_page
from longpole.sweep import running
from longpole.sweep.axes import Point, parse_axes
from longpole.sweep.result import Sweep, SweepRun, load_sweep, run_of
from longpole.sweep.running import RUNS, Plan, begin, is_unfinished, left_of, run_points
from longpole.sweep.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOSTILE = "</svg><script>alert(1)</script>\x1b[31m"


def study_of(batch: int, threads: int, name: str = "fc") -> Study:
    """Forward and backward 4 + 2 n ms, of which a fifth is serial; optimizer 10 ms, all of it serial."""
    network = (4 + 2 * batch) * (0.2 + 0.8 / threads)
    step = network + 10
    return Study(
        run=Run(script="train.py", batch_size=batch, model="Net, 1 k parameters", device="CPU, 2 threads"),
        step=Step(wall_ms=Spread(median=step, mean=1.25 * step, n=9)),  # hiccups: parts are shares of the median
        phases=[
            PhaseTime("forward", 1.25 * network / 2, 0.4),
            PhaseTime("backward", 1.25 * network / 2, 0.4),
            PhaseTime("optimizer", 12.5, 0.2),
        ],
        op_classes=[OpClassTime("matmul", 1.25 * network, 0.8), OpClassTime("optimizer", 12.5, 0.2)],
        layers=[LayerTime(name, own_forward_ms=1.25 * network / 2, own_backward_ms=1.25 * network / 2)],
        serial_chain=SerialChain(3, 4, 9, 23, 6.0, 9.0, 1.5, 2.0, 4.0, 0.0, ["a", name, "b"]),
    )


@dataclass
class Runs:
    """Stands in for the processes that a sweep starts."""

    seen: list[Point] = field(default_factory=list[Point])
    fails: Callable[[Point], bool] = lambda point: False

    def __call__(self, plan: Plan, point: Point, window_s: float) -> Study:
        self.seen.append(point)
        if self.fails(point):
            raise LongpoleError(f"train.py: out of memory at {point}")
        return study_of(point.batch or 4, point.threads or 1)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    found = Runs()
    monkeypatch.setattr(running, "measure", found)
    return found


def plan_of(*texts: str, rounds: int = 2) -> Plan:
    axes = parse_axes(texts or ("batch=4,8,16", "threads=1,2"))
    return Plan("train.py", (), False, axes, rounds, steps=5, warmup=1, cores=2)


def measured(
    plan: Plan, folder: Path, clock: Callable[[], float] = lambda: 0.0, budget_s: float = 100
) -> list[SweepRun]:
    done = begin(folder, plan)
    return [*done, *run_points(plan, folder, done, budget_s, clock, lambda progress: None)]


def sweep_of(plan: Plan, found: list[SweepRun]) -> Sweep:
    return summarise(Sweep(script="train.py", axes=list(plan.axes), runs=found, cores=plan.cores))


# -- running ------------------------------------------------------------------------------------------------------


def test_every_point_runs_in_every_round(runs: Runs, tmp_path: Path) -> None:
    plan = plan_of()
    found = measured(plan, tmp_path)
    assert sorted(runs.seen) == sorted([*plan.points, *plan.points])
    assert {(run.round, run.point) for run in found} == {(r, p) for r in range(2) for p in plan.points}


def test_a_budget_ends_it_and_the_next_time_goes_on(runs: Runs, tmp_path: Path) -> None:
    plan, ticks = plan_of(), iter(range(1000))
    first = measured(plan, tmp_path, lambda: float(next(ticks)), budget_s=4)
    assert 0 < len(first) < 12
    assert is_unfinished(tmp_path, plan)
    every = measured(plan, tmp_path)
    assert len(runs.seen) == len(every) == 12
    assert not is_unfinished(tmp_path, plan)
    assert measured(plan, tmp_path) == every
    assert len(runs.seen) == 12


def test_a_line_that_was_cut_is_run_again(runs: Runs, tmp_path: Path) -> None:
    plan = plan_of()
    measured(plan, tmp_path)
    lines = (tmp_path / RUNS).read_bytes()
    (tmp_path / RUNS).write_bytes(lines[:-20])
    assert len(begin(tmp_path, plan)) == 11
    assert len(measured(plan, tmp_path)) == 12
    assert len((tmp_path / RUNS).read_bytes().splitlines()) == 12


@pytest.mark.parametrize("line", [b"{}", b"[]", b"\xff", b'{"round": 77, "batch": 4}', b'{"round": 0, "step_ms": "x"}'])
def test_lines_of_strangers_count_for_nothing(runs: Runs, tmp_path: Path, line: bytes) -> None:
    plan = plan_of()
    begin(tmp_path, plan)
    (tmp_path / RUNS).write_bytes(line + b"\n")
    assert begin(tmp_path, plan) == []


def test_another_sweeps_folder_is_refused(runs: Runs, tmp_path: Path) -> None:
    begin(tmp_path, plan_of())
    with pytest.raises(LongpoleError, match="another sweep"):
        begin(tmp_path, plan_of("batch=1,2"))


@pytest.mark.parametrize("name", ["plan.json", "report.html"])
def test_files_of_something_else_are_not_overwritten(runs: Runs, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(LongpoleError, match="files of something else"):
        begin(tmp_path, plan_of())
    assert (tmp_path / name).read_text() == "mine"


def test_a_point_that_fails_is_left_out_and_told(runs: Runs, tmp_path: Path) -> None:
    runs.fails = lambda point: point.batch == 16
    plan = plan_of("batch=4,8,16", rounds=3)
    found = measured(plan, tmp_path)
    assert runs.seen.count(Point(16)) == 1
    sweep = sweep_of(plan, found)
    assert sweep.warnings == ["batch 16 could not be measured: train.py: out of memory at batch 16"]
    assert sweep.by_batch[0].rows[0].per_sample_ms.value == pytest.approx(2)
    assert {point for _, point in left_of(plan, begin(tmp_path, plan))} == {Point(16)}, "the next time tries it again"


def test_where_nothing_runs_the_scripts_words_are_told(runs: Runs, tmp_path: Path) -> None:
    runs.fails = lambda point: True
    with pytest.raises(LongpoleError, match="out of memory"):
        measured(plan_of(), tmp_path)
    assert len(runs.seen) == 2


def test_a_point_is_not_run_through_a_closed_door(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LongpoleError, match="cannot write"):
        begin(tmp_path / "file" / "sweep", plan_of())


# -- what follows from the runs -----------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_made_up_script(runs: Runs, tmp_path: Path) -> None:
    """On one thread 14 + 2 n: fixed 14, of it 10 the optimizer's. At batch 16: network 36 of 46 ms, a fifth serial."""
    sweep = sweep_of(plan_of(), measured(plan_of(), tmp_path))
    one = sweep.by_batch[0]
    rows = {(row.kind, row.name): row for row in one.rows}
    assert one.threads == 1
    assert rows["step", "step"].fixed_ms.value == pytest.approx(14)
    assert rows["step", "step"].per_sample_ms.value == pytest.approx(2)
    assert rows["phase", "optimizer"].fixed_ms.value == pytest.approx(10)
    assert rows["phase", "optimizer"].per_sample_ms.value == pytest.approx(0, abs=1e-9)
    assert rows["op_class", "matmul"].per_sample_ms.value == pytest.approx(2)
    assert rows["layer", "fc"].fixed_ms.value == pytest.approx(4)
    assert rows["layer", "(in no layer)"].fixed_ms.value == pytest.approx(10)
    assert one.enough is not None
    assert one.enough.value == pytest.approx(14 / (0.05 * 2))
    last = sweep.by_threads[-1]
    step = last.rows[0]
    assert (last.batch, last.most) == (16, 2)
    assert step.serial_ms.value == pytest.approx(0.2 * 36 + 10)
    assert step.parallel_ms.value == pytest.approx(0.8 * 36)
    assert step.serial_share is not None
    assert step.serial_share.value == pytest.approx(17.2 / 46)
    assert step.limit is not None
    assert step.limit.value == pytest.approx((17.2 + 28.8 / 2) / 17.2)


def test_the_parts_of_each_kind_sum_to_the_step(runs: Runs, tmp_path: Path) -> None:
    sweep = sweep_of(plan_of(), measured(plan_of(), tmp_path))
    for result in sweep.by_batch:
        for kind in ("phase", "op_class", "layer"):
            parts = [row for row in result.rows if row.kind == kind]
            for term in ("fixed_ms", "per_sample_ms"):
                whole = getattr(result.rows[0], term).value
                assert sum(getattr(row, term).value for row in parts) == pytest.approx(whole)


def test_parts_are_shares_of_the_median_step() -> None:
    run = run_of(study_of(8, 1), 0, Point(8, 1))
    for table in (run.phases, run.op_classes, run.layers):
        assert sum(table.values()) == pytest.approx(run.step_ms) == pytest.approx(30)


def test_the_sentences_say_what_is_so(runs: Runs, tmp_path: Path) -> None:
    said = " ".join(sweep_of(plan_of(), measured(plan_of(), tmp_path)).sentences)
    assert "Over the batch: a step takes 12.4 (12.4 to 12.4) ms, and 1.20 (1.20 to 1.20) ms for each sample" in said
    assert "still pays at 16" in said
    assert "2 are 1.46 (1.46 to 1.46) times as fast as 1 at batch 16; 37 % (37 % to 37 %)" in said
    assert "Of the phases, optimizer gained least: 1.00 (1.00 to 1.00) times." in said
    assert "3 of 4 layer calls wait for one another (9 of 23 autograd nodes)" in said
    assert "still take 6 of 9 ms: 1.50 layers" in said


def test_threads_that_make_it_slower_are_said_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(running, "measure", lambda plan, point, window_s: study_of(4, 3 - (point.threads or 1)))
    said = " ".join(sweep_of(plan_of(), measured(plan_of(), tmp_path)).sentences)
    assert "2 gained nothing" in said
    assert "Threads without end" not in said


def test_a_batch_that_the_network_did_not_see_is_warned_of(runs: Runs, tmp_path: Path) -> None:
    found = measured(plan_of("batch=4,8"), tmp_path)
    for run in found:
        run.seen_batch = 77
    assert "first input had 77 rows" in " ".join(sweep_of(plan_of("batch=4,8"), found).warnings)


def test_more_threads_than_cores_are_warned_of(runs: Runs, tmp_path: Path) -> None:
    plan = plan_of("threads=1,4")
    sweep = sweep_of(plan, measured(plan, tmp_path))
    assert sweep.warnings == ["4 threads share 2 cores: beyond that number threads cannot gain."]


# -- what is written ----------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    def measure(plan: Plan, point: Point, window_s: float) -> Study:
        return study_of(point.batch or 4, point.threads or 1, HOSTILE)

    monkeypatch.setattr(running, "measure", measure)
    sweep = sweep_of(plan_of(), measured(plan_of(), tmp_path))
    sweep.script, sweep.model, sweep.warnings = HOSTILE, HOSTILE, [HOSTILE]
    return sweep


def test_names_of_strangers_stay_names(hostile: Sweep) -> None:
    page = sweep_page(hostile)
    assert "<script" not in page
    assert "\x1b" not in page + sweep_text(hostile)
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_are_no_wider_than_the_terminal(hostile: Sweep, width: int) -> None:
    lines = ["".join(text for text, _ in line) for line in sweep_screen(hostile, width)]
    prose = [line for line in lines if not line.startswith("  ") or "chain" in line]
    assert max(len(line.rstrip()) for line in prose) <= max(60, min(width, 132))


def test_the_page_has_a_picture_of_each_curve(hostile: Sweep) -> None:
    page = sweep_page(hostile)
    assert page.count("<svg") == 3
    assert page.count("<circle") == 12 + 12 + 4  # every run over the batch, twice; those of the largest batch


def test_the_json_comes_back(hostile: Sweep) -> None:
    assert load_sweep(hostile.to_json(), "here") == hostile
    with pytest.raises(LongpoleError, match="is not a longpole sweep"):
        load_sweep(b"[]", "here")
    with pytest.raises(LongpoleError, match="version 9"):
        load_sweep(msgspec.json.encode(Sweep(version=9)), "here")


# -- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    return "train.py"


def call(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["sweep", *args])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return 2, "", str(done.exception)
    return done.exit_code, done.stdout, done.stderr


def test_the_command_prints_keeps_and_goes_on(runs: Runs, script: str, tmp_path: Path) -> None:
    code, out, said = call("--vary", "batch=4,8,16", "--json", "-", script)
    assert code == 0
    assert json.loads(out)["schema"] == "longpole.sweep"
    assert "6 of 6" in said
    assert "Over the batch" in said
    folder = tmp_path / "longpole-runs" / "sweep-train-0001"
    assert {path.name for path in folder.iterdir()} == {"plan.json", "runs.jsonl", "sweep.json", "report.html"}
    (folder / RUNS).write_bytes(b"\n".join((folder / RUNS).read_bytes().splitlines()[:4]) + b"\n")
    assert "4 done before" in call("--vary", "batch=4,8,16", script)[2]
    assert len(runs.seen) == 8
    assert "sweep-train-0002" in call("--vary", "batch=4,8,16", script)[2], "what is finished is not overwritten"


def test_an_edited_script_is_another_sweep(runs: Runs, script: str, tmp_path: Path) -> None:
    assert call("-o", "here", "--vary", "batch=4,8", script)[0] == 0
    (tmp_path / "train.py").write_text("# edited")
    code, _, said = call("-o", "here", "--vary", "batch=4,8", script)
    assert code == 2
    assert "another version of the script" in said


def test_a_sweep_that_cannot_run_leaves_no_folder(runs: Runs, script: str, tmp_path: Path) -> None:
    runs.fails = lambda point: True
    code, _, said = call("--vary", "batch=4,8", script)
    assert code == 2
    assert "out of memory" in said
    assert not (tmp_path / "longpole-runs").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--vary", "batch=4,8"], "which script"),
        (["train.py"], "nothing is varied"),
        (["--vary", "batch=4,8", "gone.py"], "no such script"),
        (["--vary", "batch=4,8", "--html", "/", "train.py"], "is a folder"),
    ],
)
def test_bad_calls_are_one_line(runs: Runs, script: str, args: list[str], said: str) -> None:
    code, _, text = call(*args)
    assert code == 2
    assert said in text
    assert not runs.seen


@pytest.mark.slow
def test_a_real_script_with_a_loader(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(
        dedent("""
        import torch
        from torch.utils.data import DataLoader, TensorDataset
        net = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        data = TensorDataset(torch.randn(4096, 16), torch.randn(4096, 1))
        for x, y in DataLoader(data, batch_size=4, shuffle=True):
            optimizer.zero_grad()
            (net(x) - y).square().mean().backward()
            optimizer.step()
        """)
    )
    plan = Plan(str(path), (), False, parse_axes(["batch=8,16", "threads=1,2"]), 1, steps=4, warmup=1, cores=2)
    sweep = sweep_of(plan, measured(plan, tmp_path / "kept", budget_s=300))
    assert {(run.batch, run.seen_batch) for run in sweep.runs} == {(8, 8), (16, 16)}
    assert len(sweep.by_batch) == len(sweep.by_threads) == 2
    assert sweep.serial_chain is not None
    assert (sweep.serial_chain.layers, sweep.serial_chain.of_layers) == (3, 3)


@pytest.mark.slow
def test_a_real_script_without_a_loader_is_told_to_use_its_flag(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(
        dedent("""
        import torch
        net = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        for _ in range(300):
            optimizer.zero_grad()
            net(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
        """)
    )
    plan = Plan(str(path), (), False, parse_axes(["batch=8,16"]), 1, steps=4, warmup=1)
    with pytest.raises(LongpoleError, match="has no DataLoader; vary the script's own flag"):
        measured(plan, tmp_path / "kept", budget_s=300)
