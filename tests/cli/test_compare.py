"""`longpole compare`: exit codes, files, and what is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from longpole.analysis.study import PhaseTime, Run, Spread, Step, StepSample, Study
from longpole.cli.compare import bench_rows, command
from shared_paths import traces_folder

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def save(path: Path, step_ms: float, seed: int = 1, count: int = 20) -> Path:
    random = np.random.default_rng(seed)
    samples = [StepSample(i, float(step_ms * np.exp(random.normal(0, 0.01)))) for i in range(count)]
    Study(
        run=Run(batch_size=32),
        step=Step(wall_ms=Spread(step_ms, step_ms - 1, step_ms + 2, count), samples=samples),
        phases=[PhaseTime("forward", step_ms, 1.0, step_ms - 1, step_ms + 1)],
    ).save(path)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def test_exit_codes_say_slower_or_not(tmp_path: Path) -> None:
    a, slower, faster = save(tmp_path / "a.json", 100), save(tmp_path / "b.json", 110), save(tmp_path / "c.json", 90, 2)
    again = save(tmp_path / "d.json", 100, 2)
    assert run(a, slower).exit_code == 1
    assert run(a, faster).exit_code == 0
    assert run(a, again).exit_code == 0
    assert run(a, slower, "--fail-if", "step>15%").exit_code == 0
    assert run(a, slower, "--fail-if", "step>15%", "--fail-if", "forward>5ms").exit_code == 1


def test_a_slowdown_that_too_few_steps_show_does_not_fail(tmp_path: Path) -> None:
    found = run(save(tmp_path / "a.json", 100, count=2), save(tmp_path / "b.json", 150, count=2))
    assert found.exit_code == 0
    assert "not known" in found.stderr


def test_the_first_line_is_the_answer_and_stdout_stays_empty(tmp_path: Path) -> None:
    found = run(save(tmp_path / "a.json", 100), save(tmp_path / "b.json", 110, seed=2))
    assert found.stderr.startswith("B is 1.10 times slower (1.09 to 1.1")
    assert "FAIL step>1%: step went from 100 ms to 110 ms" in found.stderr
    assert found.stdout == ""


def test_json_goes_to_stdout_or_a_file(tmp_path: Path) -> None:
    a, b = save(tmp_path / "a.json", 100), save(tmp_path / "b.json", 110)
    told = json.loads(run(a, b, "--json", "-", "-q").stdout)
    assert (told["schema"], told["verdict"]) == ("longpole.comparison", "slower")
    assert told["rows"][0]["section"] == "step"
    run(a, b, "--json", tmp_path / "out.json", "-q")
    assert json.loads((tmp_path / "out.json").read_text()) == told


def test_json_bench_has_the_form_that_github_action_benchmark_takes(tmp_path: Path) -> None:
    a, b = save(tmp_path / "a.json", 100), save(tmp_path / "b.json", 90)
    run(a, b, "-q", "--json-bench", tmp_path / "bench.json")
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert rows[0] == {"name": "step", "unit": "ms", "value": 90.0, "range": "± 1.5"}
    assert rows[1]["name"] == "phase forward"
    assert bench_rows(Study()) == []


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema": "longpole.study", "version": 99}', b"\x00\xff", b"[1, 2"])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, content: bytes) -> None:
    good, bad = save(tmp_path / "a.json", 100), tmp_path / "bad.json"
    bad.write_bytes(content)
    for words in ([good, bad], [bad, good], [good, tmp_path / "nowhere.json"]):
        done = subprocess.run(
            [sys.executable, "-m", "longpole", "compare", *map(str, words)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert "Traceback" not in done.stderr


def test_a_rule_that_is_none_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "longpole", "compare", "x", "y", "--fail-if", "step"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "step>5%" in done.stderr


def test_names_from_strangers_cannot_steer_the_terminal(tmp_path: Path) -> None:
    a, b = save(tmp_path / "a.json", 100), tmp_path / "b.json"
    Study(step=Step(wall_ms=Spread(100, 99, 101, 20)), phases=[PhaseTime("evil\x1b[2Jphase[red]", 5.0, 0.05)]).save(b)
    found = run(a, b)
    assert "\x1b[2J" not in found.stderr
    assert "phase[red]" in found.stderr


def test_the_recorded_pair_with_and_without_loader_workers() -> None:
    folder = traces_folder()
    slow = next(folder.glob("kineto__tb_plugin-samples-resnet50_num_workers_0*"), None)
    fast = next(folder.glob("kineto__tb_plugin-samples-resnet50_num_workers_4*"), None)
    if slow is None or fast is None:
        pytest.skip("the recorded ResNet-50 pair is not here")
    found = run(slow, fast)
    assert found.exit_code == 0
    assert "times faster" in found.stderr.splitlines()[0]
    assert "in data" in " ".join(found.stderr.splitlines()[:3])
    assert run(fast, slow, "-q").exit_code == 1
