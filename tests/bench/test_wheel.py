"""What is installed has all that the source has (sizes, tables, the page's script) and works without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
COUNTS = {
    "deepbench-train": {"gemm": 160, "conv": 94, "rnn": 53, "all_reduce": 35},
    "deepbench-inference-server": {"gemm": 75, "conv": 107, "rnn": 69, "sparse_gemm": 24},
    "deepbench-inference-device": {"gemm": 13, "conv": 16, "rnn": 3, "sparse_gemm": 8},
    "modern": {
        "gemm": 176, "grouped_gemm": 14, "attention": 18, "conv": 73, "norm": 26, "softmax_loss": 10, "embedding": 34,
        "optimizer": 24, "elementwise": 26, "collective": 84,
    },
}  # fmt: skip
NO_TORCH = "raise ModuleNotFoundError('torch was imported')\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this checkout; pip gets the build tool, and where it cannot the test is skipped."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", str(ROOT)]
    done = subprocess.run([*command, "-w", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode and "hatchling" in done.stderr:
        pytest.skip("pip cannot get hatchling, which builds the wheel")
    assert done.returncode == 0, done.stderr
    return next(folder.glob("longpole-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The wheel's files alone, and a torch that cannot be imported."""
    folder = wheel.parent / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    (folder / "torch.py").write_text(NO_TORCH)
    return folder


def run(installed: Path, *args: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "longpole", *args]
    done = subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    source = ROOT / "src"
    wanted = {
        str(path.relative_to(source))
        for path in (source / "longpole").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"longpole/bench/data/kernels/gemm.csv", "longpole/report/assets/page.js"} < wanted
    with zipfile.ZipFile(wheel) as archive:
        assert wanted == {name for name in archive.namelist() if name.startswith("longpole/")}


@pytest.mark.parametrize("suite", COUNTS)
def test_suites_have_all_their_sizes(installed: Path, suite: str) -> None:
    listing: dict[str, Any] = json.loads(run(installed, "ops", "--suite", suite, "--list", "--json"))
    assert listing["counts"] == COUNTS[suite]
    assert len(listing["sizes"]) == sum(COUNTS[suite].values())


def test_it_is_the_installed_one_that_runs(installed: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    code = "import longpole; print(longpole.__file__)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(installed)


def test_published_tables_and_peaks_are_there(installed: Path) -> None:
    code = "from longpole.bench.published import device_called; print(device_called('V100'))"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "V100" in done.stdout, done.stderr
    assert "MI300X" in run(installed, "machine", "--peaks")


def test_a_page_is_made_with_its_script(installed: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    event = {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 10, "dur": 90}
    trace.write_text(json.dumps({"schemaVersion": 1, "traceEvents": [event]}))
    page = tmp_path / "page.html"
    run(installed, "open", str(trace), "--html", str(page), "--quiet")
    script = (installed / "longpole" / "report" / "assets" / "page.js").read_text()
    assert script[:200] in page.read_text()
