"""A run that ends at its target: the place where it reached it is the one that the whole run would have given."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.convergence.curves import Points, crossing, window_for
from longpole.convergence.gather import Wish
from longpole.convergence.observed import Observed, Options, Series, StopAt, Text
from longpole.convergence.reached import SELDOM, TargetWatch, decided_after, is_reached
from longpole.convergence.runs import Way
from longpole.convergence.study import converge
from longpole.whatif.changes import Changes, tell

if TYPE_CHECKING:
    from pathlib import Path

    from longpole.analysis.converge_results import Convergence


def points(values: list[float]) -> Points:
    steps = np.arange(1, len(values) + 1)
    return Points(steps, steps * 0.5, np.array(values, dtype=np.float64))


def test_on_paper() -> None:
    """A falling line, 20 - place, of batches. Target 10: place 10, and 2 more for the mean over 5; but 15 at least.

    Target 1: place 19, needs the two after it: 22 values. After 15 values nothing is known of it, so neither after 21.
    """
    line = [20.0 - place for place in range(40)]
    assert decided_after(points(line), 10, "falls", of_batches=True) == 15
    assert decided_after(points(line), 1, "falls", of_batches=True) == 22
    assert decided_after(points(line[:21]), 1, "falls", of_batches=True) is None
    assert decided_after(points([-value for value in line]), -1, "rises", of_batches=True) == 22
    assert decided_after(points([]), 1, "falls", of_batches=True) is None


def test_one_lucky_batch_settles_nothing_and_what_is_said_of_a_whole_epoch_does() -> None:
    """The mean over five with one 0 among tens is 8."""
    lucky = [10.0] * 20 + [0.0] + [10.0] * 30
    assert decided_after(points(lucky), 5, "falls", of_batches=True) is None
    assert decided_after(points(lucky), 5, "falls", of_batches=False) == 21


VALUES = st.lists(st.one_of(st.floats(-2, 2), st.just(float("nan"))), min_size=1, max_size=60)


@given(VALUES, st.integers(0, 400), st.floats(-1.5, 1), st.booleans(), st.sampled_from(["falls", "rises"]))
def test_what_follows_changes_neither_the_place_nor_how_many_values_settle_it(
    noise: list[float], long: int, target: float, of_batches: bool, direction: str
) -> None:
    """Smoothed with every window that a comparison may use: those up to the one for so many values."""
    falls = [2 - 3 * at / (long + 60) + 0.3 * noise[at % len(noise)] for at in range(long + len(noise))]
    whole = points(falls if direction == "falls" else [-value for value in falls])
    goal = target if direction == "falls" else -target
    settled = decided_after(whole, goal, direction, of_batches=of_batches)
    if settled is None:
        return
    for length in {settled, (settled + len(falls)) // 2}:
        short = Points(whole.steps[:length], whole.seconds[:length], whole.values[:length])
        assert decided_after(short, goal, direction, of_batches=of_batches) == settled
        for window in range(1, window_for([settled], of_batches=of_batches) + 1, 2):
            one, other = (crossing(each, goal, direction, window) for each in (short, whole))
            assert one is not None
            assert other is not None
            assert (one.step, one.value, one.raw_step) == (other.step, other.value, other.raw_step)


def observed(values: list[float], said: str = "") -> Observed:
    ends = [1000 * step for step in range(1, len(values) + 1)]
    texts = [Text(step, 1000 * step, "stdout", said.format(value) + "\n") for step, value in enumerate(values, 1)]
    return Observed(ends, [Series("loss", list(range(1, len(values) + 1)), values)], texts if said else [])


def test_a_run_ends_only_where_it_is_clear_what_is_asked() -> None:
    falling = observed([20.0 - place for place in range(40)], "gap {0}, val acc {0}")
    assert is_reached(falling, StopAt(5.0))
    assert not is_reached(falling, StopAt(-30.0))
    assert not is_reached(falling, StopAt(5.0, "no such metric"))
    assert is_reached(falling, StopAt(15.0, "acc"))  # an accuracy rises: this one is past 15 from the beginning
    assert not is_reached(falling, StopAt(25.0, "acc"))
    gap = observed([20.0 - place for place in range(40)], "gap: {}")
    assert not is_reached(gap, StopAt(5.0, "gap"))  # which way a gap gets better, nobody knows
    assert is_reached(gap, StopAt(5.0, "gap", direction="falls"))
    assert not is_reached(gap, StopAt(5.0, "ga", is_whole_name=True, direction="falls"))


def test_looking_takes_a_hundredth_of_the_time_at_most() -> None:
    """A look computes for 7 ns of a clock that ticks by 1 at every question: the next one is 700 later."""
    ticks, spent, looked = iter(range(100_000)), iter(range(0, 100_000, 7)), []

    def so_far() -> Observed:
        looked.append(1)
        return Observed()

    watch = TargetWatch(StopAt(1.0), lambda: next(ticks), lambda: next(spent))
    for _ in range(2 * 7 * SELDOM):
        assert not watch.is_reached(so_far)
    assert len(looked) == 2
    assert watch.looking_ns == 14


SCRIPT = """
import torch
torch.manual_seed(0)
net, w = torch.nn.Linear(8, 1), torch.randn(8, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
for step in range(6000):
    x = torch.randn(16, 8)
    loss = (net(x) - x @ w).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("step", step, "loss", loss.item().hex())
    if step % 5 == 4:
        print(f"accuracy {1 / (1 + loss.item()):.6f}")
"""


def test_the_script_says_the_same_up_to_its_end_and_the_end_is_told(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    script, place = tmp_path / "train.py", tmp_path / "followed.json"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    tell(Changes(seed=0), environment)
    options = msgspec.json.encode(Options(str(place), stop_at=StopAt(0.1))).decode()

    def lines(*words: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, env=environment, check=True, timeout=600
        )
        return done.stdout.splitlines()

    stopped = lines("-m", "longpole.convergence.followed", options, str(script))
    seen = msgspec.json.decode(place.read_bytes(), type=Observed)
    assert seen.stopped == "target"
    assert 10 <= len(seen.step_ends_ns) < 6000
    assert stopped == lines(str(script))[: len(stopped)]


def test_steps_to_the_target_are_those_of_the_whole_run(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.replace("6000", "1400"))
    told: list[str] = []

    def run(to_the_end: bool) -> Convergence:
        wish = Wish("accuracy", 0.9, None, 2, to_the_end=to_the_end, tell=told.append)
        return converge([Way("train.py", [str(script)])], wish)

    early, whole = run(False), run(True)
    assert early.smoothing == whole.smoothing
    for one, other in zip(early.sides[0].runs, whole.sides[0].runs, strict=True):
        assert (one.stopped, other.stopped) == ("target", "script end")
        assert one.steps < other.steps == 1400
        assert one.reached is not None
        assert other.reached is not None
        assert (one.reached.step, one.reached.value) == (other.reached.step, other.reached.value)
        assert one.reached.left_again is None
        assert one.curve.values == other.curve.values[: len(one.curve.values)]
    assert all("(stopped by longpole at the target)" in line for line in told[:2])
    assert any("2 of 2 runs were stopped by longpole" in note for note in early.sides[0].notes)
    assert not any("stopped" in note for note in whole.sides[0].notes)
