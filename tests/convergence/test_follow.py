"""Following a script: its losses stay what they are to the last bit, and what is followed is what it computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from longpole.convergence.metrics import metrics_of, pick
from longpole.convergence.observed import Observed, Options
from longpole.convergence.runs import Limits, Way, follow
from longpole.errors import LongpoleError
from longpole.whatif.changes import Changes, tell

pytest.importorskip("torch")

SCRIPTS = Path(__file__).parent / "scripts"
TELLS_ALL = str(SCRIPTS / "tells_all.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def plainly(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=600
    )
    return done.stdout


def followed(
    tmp_path: Path,
    *words: str,
    changes: Changes | None = None,
    max_steps: int | None = None,
    returned: str | None = None,
) -> tuple[subprocess.CompletedProcess[str], Observed]:
    place = tmp_path / "followed.json"
    options = msgspec.json.encode(Options(str(place), max_steps=max_steps, returned=returned)).decode()
    environment = dict(ENVIRONMENT)
    tell(changes or Changes(), environment)
    command = [sys.executable, "-m", "longpole.convergence.followed", options, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)
    return done, msgspec.json.decode(place.read_bytes(), type=Observed)


def told_losses(stdout: str) -> list[float]:
    return [float.fromhex(line.split()[1]) for line in stdout.splitlines() if line.startswith("loss ")]


@pytest.mark.parametrize("kind", ["plain", "accumulate", "lbfgs", "amp", "by hand"])
def test_losses_are_the_same_with_and_without_and_are_what_is_followed(kind: str, tmp_path: Path) -> None:
    """One value a step: micro-batches summed, a closure's first call, a scaled loss before its scaling."""
    words = (TELLS_ALL, "--kind", kind, "--steps", "26" if kind == "by hand" else "12")
    done, observed = followed(tmp_path, *words, changes=Changes(seed=0))
    assert done.returncode == 0, done.stderr
    assert done.stdout == plainly(*words)
    [series] = observed.losses
    told = told_losses(done.stdout)
    assert len(told) == len(series.steps) == len(observed.step_ends_ns)
    assert series.steps == list(range(1, len(told) + 1))
    if kind == "accumulate":  # summed here one after the other as in the script
        assert series.values == pytest.approx(told, rel=1e-12)
    else:
        assert series.values == told


ROOT = Path(__file__).resolve().parents[2]
SMALL_GPT = ["--steps", "4", "--layers", "1", "--embed", "24", "--heads", "2", "--batch-size", "2", "--log-every", "1"]


@pytest.mark.parametrize(
    "words",
    [
        ["examples/char_gpt.py", *SMALL_GPT, "--eval-every", "2", "--eval-batches", "1"],
    ],
    ids=lambda words: words[0],
)
def test_examples_say_the_same_when_they_are_followed(words: list[str], tmp_path: Path) -> None:
    script = [str(ROOT / words[0]), *words[1:]]
    done, observed = followed(tmp_path, *script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == plainly(*script)
    assert [series.name for series in observed.losses] == ["loss"]
    assert len(observed.losses[0].values) == len(observed.step_ends_ns)


def test_what_the_script_says_is_found_and_what_it_returns(tmp_path: Path) -> None:
    done, observed = followed(tmp_path, TELLS_ALL, returned="evaluate")
    assert done.returncode == 0, done.stderr
    found = {one.name: one for one in metrics_of(observed)}
    shown = found["shown loss"] if "shown loss" in found else found["loss (printed)"]
    assert shown.source == "printed"
    assert list(found["val_acc"].points.steps) == [3, 6, 9, 12]
    assert found["evaluate.mean"].source == "returned"
    assert list(found["evaluate.mean"].points.steps) == [3, 6, 9, 12]
    assert pick(list(found.values()), None).name == "loss"
    assert pick(list(found.values()), "valacc").name == "val_acc"
    with pytest.raises(LongpoleError, match="val_acc"):
        pick(list(found.values()), "nothing of the kind")
    assert observed.batch_size == 16
    assert [(layer.path, layer.parameters) for layer in observed.layers] == [("first", 56), ("norm", 16), ("last", 9)]
    assert observed.parameters == 81
    assert 0 < observed.following_ns < 1e6


def test_figures_are_found_in_whatever_way_they_are_told(tmp_path: Path) -> None:
    """Percent becomes a share; a figure told every third step is one of every third step."""
    done, observed = followed(tmp_path, str(SCRIPTS / "says_in_many_ways.py"))
    assert done.returncode == 0, done.stderr
    values = [float.fromhex(word) for word in done.stdout.splitlines()[-1].split()[1:]]
    shares = [1 / (1 + value) for value in values]
    every = list(range(1, 13))
    expected = {
        "loss": ("backward", every, values),
        "acc": ("printed", every, shares),
        "val_loss": ("printed", every, values),
        "train_loss": ("printed", every, values),
        "f1": ("printed", every, shares),
        "critic loss": ("printed", every, values),
        "top-1": ("printed", every, shares),
        "bar_loss": ("printed", every, values),
        "mean loss": ("printed", [4, 8, 12], [sum(values[at : at + 4]) / 4 for at in (0, 4, 8)]),
        "test_loss": ("printed", [3, 6, 9, 12], values[2::3]),
        "Loss/valid": ("logged", [3, 6, 9, 12], values[2::3]),
        "wandb_loss": ("logged", [3, 6, 9, 12], values[2::3]),
        "auc": ("logged", [3, 6, 9, 12], shares[2::3]),
    }
    found = {one.name: one for one in metrics_of(observed)}
    assert set(found) - {"images.0", "images.1"} == set(expected)
    for name, (source, steps, told) in expected.items():
        assert found[name].source == source
        assert list(found[name].points.steps) == steps
        assert list(found[name].points.values) == pytest.approx(told, abs=1e-6)


@pytest.mark.parametrize("critic_steps", [1, 3])
def test_a_gan_has_two_losses_and_they_are_the_same_to_the_bit(critic_steps: int, tmp_path: Path) -> None:
    """One value a turn each; of several critic steps in a turn, their mean."""
    words = (str(SCRIPTS / "gan.py"), "--critic-steps", str(critic_steps))
    done, observed = followed(tmp_path, *words, changes=Changes(seed=0))
    assert done.returncode == 0, done.stderr
    assert done.stdout == plainly(*words)
    said = {who: [float.fromhex(line.split()[1]) for line in done.stdout.splitlines() if line.startswith(who)]
            for who in ("judge", "maker")}  # fmt: skip
    judge, maker = observed.losses
    assert (judge.name, maker.name) == ("loss 1", "loss 2")
    if critic_steps == 1:
        assert judge.values == said["judge"]
        assert maker.values == said["maker"]
    assert sorted(maker.values) == sorted(said["maker"])
    assert set(judge.steps) | set(maker.steps) == set(range(1, len(observed.step_ends_ns) + 1))
    with pytest.raises(LongpoleError, match="--metric: loss 1, loss 2"):
        pick(metrics_of(observed), None)


DIGITS = ["--steps", "20", "--batch-size", "8", "--width", "4"]


def test_the_digits_example_says_the_same_and_its_losses_are_followed_to_the_bit(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    script = tmp_path / "digits.py"
    text = (ROOT / "examples" / "finetune_digits.py").read_text()
    script.write_text(
        text.replace(
            "        optimizer.step()\n", "        optimizer.step()\n        print('bits', loss.item().hex())\n"
        )
    )
    done, observed = followed(tmp_path, str(script), *DIGITS, changes=Changes(seed=0))
    assert done.returncode == 0, done.stderr
    assert done.stdout == plainly(str(script), *DIGITS)
    bits = [float.fromhex(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("bits ")]
    assert len(bits) == 20
    assert observed.losses[0].values == bits


def test_a_run_ends_after_the_steps_it_may_have_and_its_last_words_are_heard(tmp_path: Path) -> None:
    done, observed = followed(tmp_path, TELLS_ALL, "--steps", "1000000", max_steps=5)
    assert done.returncode == 0
    assert len(observed.step_ends_ns) == 5
    assert observed.stopped == "max steps"
    assert len(told_losses(done.stdout)) == 5


def test_seeds_give_other_losses_and_the_same_seed_the_same(tmp_path: Path) -> None:
    values = [followed(tmp_path, TELLS_ALL, changes=Changes(seed=seed))[1].losses[0].values for seed in (0, 1, 1)]
    assert values[0] != values[1]
    assert values[1] == values[2]


def test_a_script_that_fails_tells_why(tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text("import torch\nraise ValueError('no data here')\n")
    with pytest.raises(LongpoleError, match="no data here"):
        follow(Way("fails.py", [str(script)]), 0, Limits())


def test_a_script_without_training_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "idle.py"
    script.write_text("import torch\nprint(torch.zeros(1))\n")
    with pytest.raises(LongpoleError, match="no optimizer stepped"):
        follow(Way("idle.py", [str(script)]), 0, Limits())
    script.write_text("print(1)\n")
    with pytest.raises(LongpoleError, match="never imported torch"):
        follow(Way("idle.py", [str(script)]), 0, Limits())
