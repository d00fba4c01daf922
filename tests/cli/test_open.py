"""`longpole open`: what it opens, what it writes where, and one line for what it cannot."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from longpole.analysis.study import load_study
from longpole.cli.main import cli
from longpole.errors import LongpoleError
from made_traces import kernel, runtime, span, write

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def step_of(rank: int, length: float) -> list[dict[str, object]]:
    return [
        span("user_annotation", "ProfilerStep#1", 0, length, tid=rank + 1),
        {**runtime("cudaLaunchKernel", 5, 5, 1), "tid": rank + 1},
        kernel("ampere_sgemm_128x64_nn", 10, 40, correlation=1),
    ]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write(tmp_path / "trace.json", step_of(0, 100))


def opening(*args: object) -> Result:
    """Runs `longpole open`; an error made for the user's eyes is raised, as `main` is what prints it."""
    return CliRunner().invoke(cli, ["open", *map(str, args)], catch_exceptions=False)


def test_the_report_goes_to_stderr_and_json_to_stdout(trace: Path) -> None:
    plain = opening(trace)
    assert (plain.exit_code, plain.stdout) == (0, "")
    assert "The long pole" in plain.stderr
    both = opening(trace, "--json", "-")
    assert load_study(both.stdout.encode(), "stdout").step.wall_ms.mean == pytest.approx(0.1)
    assert "The long pole" in both.stderr
    assert opening(trace, "--json", "-", "-q").stderr == ""


def test_files_are_written_where_asked(trace: Path, tmp_path: Path) -> None:
    out = {name: tmp_path / f"out.{name}" for name in ("json", "html", "perfetto")}
    assert opening(trace, "-q", *(f"--{name}={path}" for name, path in out.items())).exit_code == 0
    assert load_study(out["json"].read_bytes(), "out").run.steps.measured == 1
    assert out["html"].read_text().startswith("<!doctype html>")
    text = out["perfetto"].read_bytes()
    text = gzip.decompress(text) if text[:2] == b"\x1f\x8b" else text
    assert any(event.get("name") == "ampere_sgemm_128x64_nn" for event in json.loads(text)["traceEvents"])


def test_a_study_opens_as_it_was_written(trace: Path, tmp_path: Path) -> None:
    saved = tmp_path / "kept.json"
    opening(trace, "-q", "--json", saved)
    again = opening(saved, "--json", "-", "-q")
    assert again.stdout.encode().strip() == saved.read_bytes().strip()


def test_a_folder_and_a_pattern_open_every_rank(tmp_path: Path) -> None:
    for rank in (1, 0):
        write(tmp_path / f"rank{rank}.json", step_of(rank, 100 + rank * 100))
    for named in (tmp_path, tmp_path / "rank*.json"):
        study = load_study(opening(named, "--json", "-", "-q").stdout.encode(), "stdout")
        assert [rank.rank for rank in study.ranks] == [0, 1]
        assert study.step.wall_ms.mean == pytest.approx(0.15)


def test_one_step_by_its_number(trace: Path) -> None:
    assert load_study(opening(trace, "--step", 1, "--json", "-", "-q").stdout.encode(), "").run.steps.measured == 1
    with pytest.raises(LongpoleError, match="no step 5: the trace has steps 1 to 1"):
        opening(trace, "--step", 5)


def test_ranks_are_all_shown_when_asked_and_lists_have_as_many_rows_as_asked(tmp_path: Path) -> None:
    for rank in range(12):
        write(tmp_path / f"rank{rank}.json", step_of(rank, 100 + rank))
    by_default, asked = opening(tmp_path).stderr, opening(tmp_path, "--ranks").stderr
    rows = {
        text: [line for line in text.splitlines() if "%" in line and line.split()[0].isdigit()]
        for text in (by_default, asked)
    }
    assert [line.split()[0] for line in rows[asked]] == [str(rank) for rank in range(12)]
    assert len(rows[by_default]) == 8
    few = opening(tmp_path, "--top", 2).stderr
    assert len([line for line in few.splitlines() if "%" in line and line.split()[0].isdigit()]) == 2
    assert "0 is not in the range" in opening(tmp_path, "--top", 0).stderr


def test_layers_are_shown_when_asked_and_their_absence_is_explained(trace: Path) -> None:
    assert "No layer is known" in opening(trace, "--layers").stderr
    assert "with_modules=True" in opening(trace).stderr.replace("\n", "").replace(" ", "")


def test_what_cannot_be_opened_is_one_line(tmp_path: Path, trace: Path) -> None:
    study = tmp_path / "study.json"
    opening(trace, "-q", "--json", study)
    (tmp_path / "empty").mkdir()
    wrong = {
        tmp_path / "none.json": "no such file",
        tmp_path / "*.pt": "no file fits this pattern",
        tmp_path / "empty": "holds no trace",
    }
    for path, said in wrong.items():
        with pytest.raises(LongpoleError, match=said) as caught:
            opening(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(LongpoleError, match="open one at a time"):
        opening(study, trace)
    with pytest.raises(LongpoleError, match="--step needs the trace"):
        opening(study, "--step", "1")
    with pytest.raises(LongpoleError, match="a timeline needs a trace"):
        opening(study, "-q", "--perfetto", tmp_path / "out.json")
    with pytest.raises(LongpoleError, match="there is no folder"):
        opening(trace, "--html", tmp_path / "nowhere" / "page.html")


def test_the_program_itself_ends_with_two_and_no_traceback(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("this is no trace")
    done = subprocess.run(
        [sys.executable, "-m", "longpole", "open", str(bad)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("longpole: ")
    assert len(done.stderr.splitlines()) == 1


def test_opening_a_trace_never_imports_torch(trace: Path) -> None:
    code = f"import sys; sys.argv = ['longpole', 'open', {str(trace)!r}, '-q']; from longpole.cli.main import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
