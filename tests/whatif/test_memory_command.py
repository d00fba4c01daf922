"""`longpole memory`: from a trace, from a script, and what is said where it cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from longpole.analysis.memory_prices import BatchPoint, Checked, FitPrice, LargestBatch, MemoryPrices, Price
from longpole.errors import LongpoleError
from longpole.report.lines import plain
from longpole.report.prices import price_lines
from longpole.report.prices_page import prices_page
from longpole.whatif.memory_runs import batches_round, with_flag
from longpole.whatif.sizes import parse_bytes

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import sys, torch
from torch import nn
torch.manual_seed(0)
batch = int(sys.argv[2]) if sys.argv[1:2] == ["--batch"] else 256
net = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.GELU()) for _ in range(6)), nn.Linear(64, 4))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(60):
    optimizer.zero_grad()
    net(torch.randn(batch, 64)).square().mean().backward()
    optimizer.step()
"""


def longpole(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "longpole", *words], capture_output=True, text=True, check=False)


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "train.py"
    path.write_text(dedent(SCRIPT))
    return str(path)


def test_a_trace_has_its_price_list_and_the_set_for_a_budget(script: str, tmp_path: Path) -> None:
    """A block keeps its input and the Linear's output, 64 KiB each; checkpointed it keeps its input: 64 KiB less."""
    trace = str(tmp_path / "run.longpole")
    done = longpole("run", "--stop", "-q", "--no-save", "--steps", "3", "--trace", trace, script)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(longpole("memory", "--json", "-", "-q", trace).stdout)
    by_names = {price["names"]: price for price in found["prices"]}
    assert by_names["0-1"]["freed_bytes"] == 2 * 64 * 1024
    assert by_names["0-1"]["ms"] > by_names["0"]["ms"] > 0
    budget = found["peak_bytes"] - 100 * 1024
    shown = longpole("memory", trace, "--fit", str(budget))
    assert "longpole run --checkpoint" in shown.stderr
    assert "no other set is cheaper" in shown.stderr
    assert shown.stdout == ""
    assert "--check runs the script" in longpole("memory", "--check", trace).stderr
    page = tmp_path / "memory.html"
    done = longpole("memory", "-q", "--html", str(page), trace)
    assert (done.returncode, done.stderr) == (0, "")
    html = page.read_text()
    assert "What giving memory back would cost" in html
    assert "Memory over one step" in html


@pytest.mark.slow
def test_a_script_is_priced_checked_and_its_largest_batch_found(script: str) -> None:
    """The peak is a straight line in the batch: within 5 % where it is predicted."""
    words = ("--json", "-", "--check", "--largest-batch", "--batch-flag", "--batch", "--batches", "128,256,512")
    done = longpole("memory", *words, "--budget", "4MiB", "--steps", "3", "--fit", "900KB", script)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["checked"]["measured_peak_bytes"] <= 900_000
    assert found["checked"]["predicted_peak_bytes"] == pytest.approx(found["checked"]["measured_peak_bytes"], rel=0.02)
    largest = found["largest_batch"]
    assert largest["low"] <= largest["batch_size"] <= largest["high"]
    assert largest["checked_batch"] == min(largest["batch_size"], 1024)
    checked = largest["checked"]
    assert checked["predicted_peak_bytes"] == pytest.approx(checked["measured_peak_bytes"], rel=0.05)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "memory of what?"),
        (("nowhere.py",), "no such script"),
        (("--fit", "eight", "x.py"), "--fit 'eight': not a number of bytes"),
        (("missing.longpole",), "missing.longpole"),
        (("--budget", "1GB", "x.py"), "--budget is for --largest-batch, which was not given; for a budget of the"),
        (("--batches", "4,8", "x.py"), "--batches is for --largest-batch"),
        (("--html", "/nowhere/page.html", "x.py"), "there is no folder /nowhere"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(words: tuple[str, ...], said: str) -> None:
    done = longpole("memory", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("512 MiB", 512 * 2**20), ("1.5g", 15 * 10**8), ("300", 300), ("2ki", 2048), ("1TB", 10**12)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text, "--fit") == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "0", "1e9", "8 XB", "8ib", "9" * 40, "8GB8"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(LongpoleError, match="--fit"):
        parse_bytes(text, "--fit")


def test_the_scripts_own_flag_is_set_wherever_it_stood() -> None:
    assert with_flag(["t.py", "--b", "8", "--x"], "--b", 4) == ["t.py", "--x", "--b", "4"]
    assert with_flag(["t.py", "--b=8", "--x"], "--b", 4) == ["t.py", "--x", "--b", "4"]
    assert with_flag(["t.py", "-b", "8"], "-b", 4) == ["t.py", "-b", "4"]
    assert [batches_round(batch) for batch in (1, 2, 16)] == [(1, 2, 4), (1, 2, 4), (8, 16, 32)]


def test_everything_found_is_on_the_screen_and_names_of_strangers_are_harmless() -> None:
    price = Price(("a",), "a\x1b[31m", 1 << 20, 9 << 20, 5.0, 0.05)
    found = MemoryPrices(
        script="t\x07.py",
        peak_bytes=10 << 20,
        step_ms=100.0,
        prices=[price],
        fit=FitPrice(8 << 20, None, smallest=price),
        checked=Checked("a", 9 << 20, 10 << 20, 5.0, 6.0, 4.0, 8.0),
        largest_batch=LargestBatch(1 << 30, "given", (BatchPoint(8, 9 << 20),), 1.0, 2.0, 64, 60, 70),
    )
    text = "\n".join(map(plain, price_lines(found, 100)))
    assert "\x1b" not in text
    assert "\x07" not in text
    for part in (
        "10.0 MiB",
        "+5.00 ms",
        "+5.0 %",
        "No set of layers fits",
        "10.00 % off",
        "4.00 to 8.00",
        "64 (60 to 70)",
    ):
        assert part in text
    assert "torch is not here" in text
    nothing = "\n".join(map(plain, price_lines(MemoryPrices(peak_bytes=1), 80)))
    assert "would free nothing at the peak" in nothing


def test_prices_within_the_noise_are_marked_and_explained() -> None:
    """Two runs differ by 3 ms: 2 ms cannot be shown by running it, 5 ms can."""
    prices = [Price(("a",), "a", 2 << 20, 8 << 20, 5.0, 0.05), Price(("b",), "b", 1 << 20, 9 << 20, 2.0, 0.02)]
    found = MemoryPrices(peak_bytes=10 << 20, step_ms=100.0, noise_ms=3.0, prices=prices)
    text = "\n".join(map(plain, price_lines(found, 100)))
    assert "~+2.00 ms" in text
    assert "~+5.00 ms" not in text
    assert "may differ by, 3.00 ms" in text
    unknown = "\n".join(map(plain, price_lines(MemoryPrices(peak_bytes=1, prices=prices), 100)))
    assert "is not known" in unknown


def test_the_page_escapes_names_and_holds_all_that_was_found() -> None:
    evil = "<script>alert(1)</script>"
    price = Price((evil,), evil, 1 << 20, 9 << 20, 5.0, 0.05)
    found = MemoryPrices(
        script=evil,
        peak_bytes=10 << 20,
        step_ms=100.0,
        noise_ms=8.0,
        prices=[price],
        fit=FitPrice(8 << 20, None, smallest=price),
        checked=Checked(evil, 9 << 20, 10 << 20, 5.0, 6.0, 4.0, 8.0),
        largest_batch=LargestBatch(1 << 30, "given", (BatchPoint(8, 9 << 20),), 1.0, 2.0, 64, 60, 70),
        notes=[evil],
    )
    page = prices_page(found)
    assert "<script" not in page
    assert "default-src 'none'" in page
    for part in ("No set of layers fits", "10.00 % off", "64 (60 to 70)", "~+5.00 ms", "would not show it"):
        assert part in page
