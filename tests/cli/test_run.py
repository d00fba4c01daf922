"""`longpole run` on real scripts, in processes of their own: harmless, and one line where there is nothing to say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from longpole.analysis.study import load_study
from longpole.capture.launch import Target
from longpole.cli.main import cli
from longpole.cli.run import choose_places, split
from longpole.cli.run_folder import check_writable, new_folder, of_rank
from longpole.errors import LongpoleError

PLANTED = Path(__file__).resolve().parents[1] / "planted"
SHORT = ("--steps", "4", "--warmup", "1")
NOISE = "USDT:"  # Kineto's own


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100"}


def run(folder: Path, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    kept: dict[str, Any] = {"cwd": folder, "env": environment(), "capture_output": True, "text": True, "timeout": 120}
    return subprocess.run([sys.executable, *command], check=False, **(kept | options))


def longpole(folder: Path, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return run(folder, "-m", "longpole", "run", *args, **options)


def planted(name: str) -> str:
    return str(PLANTED / f"{name}.py")


def said(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("longpole: ")]


# -- words on the command line ---------------------------------------------------------------------------------

VALUED = {"--steps", "--json", "-o"}


@pytest.mark.parametrize(
    ("words", "own", "target"),
    [
        ("train.py", [], Target("train.py", [])),
        ("--steps 3 train.py --steps 9 -q", ["--steps", "3"], Target("train.py", ["--steps", "9", "-q"])),
        ("train.py -- -x", [], Target("train.py", ["--", "-x"])),
        ("-q -m pkg.train -m x", ["-q"], Target("pkg.train", ["-m", "x"], is_module=True)),
        ("--json - train.py -", ["--json", "-"], Target("train.py", ["-"])),
        ("--steps=3 train.py", ["--steps=3"], Target("train.py", [])),
        ("--help", ["--help"], None),
    ],
)
def test_what_follows_the_script_is_the_scripts(words: str, own: list[str], target: Target | None) -> None:
    assert split(words.split(), VALUED) == (own, target)


def test_a_module_needs_its_name() -> None:
    with pytest.raises(LongpoleError, match="-m needs the name of a module"):
        split(["-m"], VALUED)


@pytest.mark.parametrize("name", ["run", "converge", "sweep", "memory"])
def test_a_missing_module_is_told_by_the_command_that_was_given(name: str) -> None:
    done = CliRunner().invoke(cli, [name, "-m"])
    assert str(done.exception) == f"-m needs the name of a module: longpole {name} -m package.train"


def test_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [new_folder("train").name for _ in range(3)] == ["train-0001", "train-0002", "train-0003"]
    assert new_folder("other").name == "other-0001"


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "longpole-runs").write_text("a file")
    with pytest.raises(LongpoleError, match=r"cannot make .*use -o PATH"):
        new_folder("train")


def test_places_are_looked_at_before_the_training(tmp_path: Path) -> None:
    assert check_writable(tmp_path / "x.json", "--json") == tmp_path / "x.json"
    for path in (tmp_path, tmp_path / "nowhere" / "x.json"):
        with pytest.raises(LongpoleError, match="--json"):
            check_writable(path, "--json")


def test_ranks_write_files_of_their_own() -> None:
    assert of_rank(Path("a/out.json"), 0) == Path("a/out.json")
    assert of_rank(Path("a/out.json"), 2) == Path("a/out.rank2.json")
    assert of_rank(None, 2) is None


# -- harmless --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["accumulation"],
        ["activation_checkpointing"],
        ["amp"],
        ["backward_delay", "--delay-ms", "1"],
        ["batch_between", "--delay-ms", "1"],
        ["checkpoint_delay", "--delay-ms", "1"],
        ["closure_lbfgs"],
        ["dataset_delay", "--delay-ms", "1"],
        ["eval_delay", "--delay-ms", "1"],
        ["everything", "--delay-ms", "0.2"],
        ["frozen", "--net", "lstm"],
        ["functional", "--delay-ms", "1"],
        ["gan", "--delay-ms", "0.5"],
        ["mp_spawn"],
        ["spawn_workers", "--context", "fork", "--delay-ms", "1"],
        ["threads_train", "--delay-ms", "1"],
        ["tied_weights"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.slow
def test_output_and_exit_code_are_those_of_python(tmp_path: Path, words: list[str]) -> None:
    script = [planted(words[0]), *words[1:], "--steps", "40"]
    bare = run(tmp_path, *script)
    ours = longpole(tmp_path, "-q", "--no-save", *SHORT, *script)
    assert ours.stdout == bare.stdout
    assert "loss" in bare.stdout
    assert ours.returncode == (bare.returncode if words[0] != "mp_spawn" else 2), ours.stderr


def test_losses_to_the_last_bit_and_a_folder_with_everything(tmp_path: Path) -> None:
    script = [planted("everything"), "--steps", "36", "--delay-ms", "0.1"]
    ours = longpole(tmp_path, *SHORT, *script)
    assert ours.stdout == run(tmp_path, *script).stdout
    assert ours.returncode == 0
    folder = tmp_path / "longpole-runs" / "everything-0001"
    assert {path.name for path in folder.iterdir()} == {"study.json", "report.html", "trace.longpole"}
    study = load_study((folder / "study.json").read_bytes(), "study.json")
    assert study.run.stopped == "window"
    assert study.step.accounted_share is not None
    assert study.step.accounted_share >= 0.99
    assert "accounted for" in ours.stderr
    assert str(Path("longpole-runs") / "everything-0001") in ours.stderr


def test_stop_ends_the_script_with_the_window(tmp_path: Path) -> None:
    ours = longpole(
        tmp_path, "-q", "--no-save", "--stop", *SHORT, planted("raises"), "--at", "after", "--steps", "100000"
    )
    assert ours.returncode == 0
    assert said(ours.stderr) == []
    assert 20 < len(ours.stdout.splitlines()) < 100


def test_a_script_that_prints_without_end(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "import runpy, sys\nfor _ in range(200_000): print('x' * 40)\n"
        f"sys.path.insert(0, {str(PLANTED)!r})\nsys.argv[1:] = ['--steps', '30']\n"
        f"runpy.run_path({planted('accumulation')!r}, run_name='__main__')\n"
    )
    ours = longpole(tmp_path, "-q", "--no-save", *SHORT, "loud.py")
    assert ours.returncode == 0
    assert ours.stdout.count("\n") == 200_000 + 30 * 4


def test_the_study_on_stdout(tmp_path: Path) -> None:
    ours = longpole(tmp_path, "-q", "--no-save", "--json", "-", *SHORT, planted("closure_lbfgs"), "--steps", "30")
    text = ours.stdout
    study = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert study["schema"] == "longpole.study"


# -- survives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [("error", 1, "ValueError: planted error"), ("exit", 3, ""), ("interrupt", -signal.SIGINT, "KeyboardInterrupt")],
)
@pytest.mark.parametrize("at", ["before", "inside", "after"])
def test_bad_ends_are_the_scripts_own(tmp_path: Path, how: str, code: int, words: str, at: str) -> None:
    script = [planted("raises"), "--at", at, "--how", how, "--steps", "40", "--at-step", "12"]
    ours = longpole(tmp_path, "-q", "--no-save", "--json", "study.json", *SHORT, *script)
    bare = run(tmp_path, *script)
    assert (ours.returncode, ours.stdout) == (bare.returncode, bare.stdout) == (code, bare.stdout)
    assert words in ours.stderr
    assert "src/longpole" not in ours.stderr
    if at == "before":
        assert len(said(ours.stderr)) == 1
    else:
        study = load_study((tmp_path / "study.json").read_bytes(), "study.json")
        stopped = {"error": "error", "exit": "script end", "interrupt": "interrupt"}[how]
        assert study.run.stopped == (stopped if at == "inside" else "window")
        assert study.run.steps.measured > 0


def test_killed_in_mid_run_the_trace_can_be_opened(tmp_path: Path) -> None:
    script = [planted("raises"), "--at", "inside", "--how", "kill", "--at-step", "14", "--steps", "40"]
    ours = longpole(tmp_path, *SHORT, *script)
    assert ours.returncode == -signal.SIGKILL
    opened = run(tmp_path, "-m", "longpole", "open", "longpole-runs/raises-0001", "--json", "study.json")
    assert opened.returncode == 0, opened.stderr
    study = load_study((tmp_path / "study.json").read_bytes(), "study.json")
    assert study.run.steps.measured > 0
    assert {"forward", "backward", "optimizer"} <= {phase.phase for phase in study.phases}


def test_ranks_share_a_folder_that_was_named_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"output": tmp_path / "out", "html": None, "perfetto": None, "trace": None, "json_": None}
    found: list[set[Path | None]] = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        places = choose_places(Target("train.py", []), {**options, "no_save": False})
        found.append({places.json, places.html, places.trace})
    assert not found[0] & found[1]
    assert found[0] == {tmp_path / "out" / name for name in ("study.json", "report.html", "trace.longpole")}
    assert {path.parent for path in found[1] if path} == {tmp_path / "out"}


def test_a_run_without_steps_leaves_the_folder_round_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "nothing.py").write_text("import torch\n")
    ours = longpole(tmp_path, "-o", str(tmp_path / "mine" / "out"), "nothing.py")
    assert ours.returncode == 2
    assert [*(tmp_path / "mine").iterdir()] == []


FORKS_LATE = """
import atexit, os, sys, torch
net = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
atexit.register(lambda: print("bye", flush=True))
child = -1
for turn in range(60):
    if turn == 50:
        child = os.fork()
    optimizer.zero_grad()
    net(torch.ones(2, 4)).sum().backward()
    optimizer.step()
if not child:
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_that_was_forked_after_ops_were_recorded_comes_to_its_end(tmp_path: Path) -> None:
    """Kineto's thread is not in it, and what would stop that thread at the end waits forever."""
    (tmp_path / "forks.py").write_text(FORKS_LATE)
    ours = longpole(tmp_path, "-q", "--no-save", *SHORT, "forks.py")
    assert (ours.returncode, ours.stdout.split()) == (0, ["bye", "5", "bye"])


def test_a_child_that_the_script_forked_says_and_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "forks.py").write_text(
        "import os, sys\nif os.fork() == 0:\n    sys.exit(7)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        "import torch\nmodel = torch.nn.Linear(4, 4)\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "for _ in range(40):\n    model(torch.randn(4, 4)).mean().backward()\n    optimizer.step()\n"
    )
    ours = longpole(tmp_path, "-q", *SHORT, "forks.py")
    assert (ours.returncode, ours.stdout, said(ours.stderr)) == (0, "7\n", [])
    assert (tmp_path / "longpole-runs" / "forks-0001" / "trace.longpole").stat().st_size > 1000


def test_a_script_that_looks_for_torch_first(tmp_path: Path) -> None:
    (tmp_path / "looks.py").write_text(
        "import importlib.util\nassert importlib.util.find_spec('torch')\n"
        f"import runpy, sys\nsys.path.insert(0, {str(PLANTED)!r})\nsys.argv[1:] = ['--steps', '30']\n"
        f"runpy.run_path({planted('closure_lbfgs')!r}, run_name='__main__')\n"
    )
    ours = longpole(tmp_path, "-q", "--no-save", "--json", "study.json", *SHORT, "looks.py")
    assert ours.returncode == 0, ours.stderr
    assert (tmp_path / "study.json").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "which script?"),
        (["nowhere.py"], "no such script: nowhere.py"),
        (["--json", "/nonexistent/x.json", "train.py"], "/nonexistent"),
        (["--html", ".", "train.py"], "is a folder"),
        (["-o", "x.xyz", "train.py"], "the ending says the format"),
        (["-m"], "-m needs the name"),
    ],
)
def test_one_line_before_the_script_starts(tmp_path: Path, args: list[str], words: str) -> None:
    (tmp_path / "train.py").write_text("print('started')")
    ours = longpole(tmp_path, *args)
    assert ours.returncode == 2
    assert ours.stdout == ""
    assert len(ours.stderr.splitlines()) == 1
    assert words in ours.stderr


def test_an_option_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('started')")
    ours = longpole(tmp_path, "--nonsense", "train.py")
    assert (ours.returncode, ours.stdout) == (2, "")
    assert "--nonsense" in ours.stderr


def test_a_place_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('started')")
    (tmp_path / "longpole-runs").write_text("")
    ours = longpole(tmp_path, "train.py")
    assert (ours.returncode, ours.stdout, len(said(ours.stderr))) == (2, "", 1)


@pytest.mark.parametrize("words", [[], ["--torch"]])
def test_nothing_to_measure(tmp_path: Path, words: list[str]) -> None:
    ours = longpole(tmp_path, planted("no_training"), *words)
    assert ours.returncode == 2
    assert ours.stdout.endswith("nothing to train\n")
    assert len(said(ours.stderr)) == 1
    assert not (tmp_path / "longpole-runs").exists()


def test_training_that_is_over_before_the_window(tmp_path: Path) -> None:
    ours = longpole(tmp_path, planted("accumulation"), "--steps", "3")
    assert ours.returncode == 2
    [line] = said(ours.stderr)
    assert "3 steps were seen" in line
    assert "--warmup" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's own")
@pytest.mark.parametrize("option", ["--json", "--trace", "--html"])
def test_a_full_disk_leaves_the_training_alone(tmp_path: Path, option: str) -> None:
    script = [planted("closure_lbfgs"), "--steps", "30"]
    ours = longpole(tmp_path, "-q", "--no-save", option, "/dev/full", *SHORT, *script)
    assert ours.stdout == run(tmp_path, *script).stdout
    assert ours.returncode == 2
    [line] = said(ours.stderr)
    assert "No space left on device" in line


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"tr\xffin.py")
    try:
        (tmp_path / name).write_text(Path(planted("closure_lbfgs")).read_text())
    except OSError:
        pytest.skip("this file system takes no such names")
    env = {**environment(), "PYTHONPATH": str(PLANTED)}
    ours = longpole(tmp_path, "-q", "--no-save", "--trace", "t.longpole", *SHORT, name, "--steps", "30", env=env)
    assert ours.returncode == 0, ours.stderr
    assert run(tmp_path, "-m", "longpole", "open", "t.longpole").returncode == 0


@pytest.mark.slow
def test_ctrl_c_from_outside(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "longpole", "run", "-q", "--no-save", "--json", "study.json", *SHORT]
    script = [planted("raises"), "--at", "after", "--steps", "1000000"]
    with subprocess.Popen([*command, *script], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(60):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            process.stdout.readline()
    assert process.returncode == -signal.SIGINT
    assert (tmp_path / "study.json").exists()
