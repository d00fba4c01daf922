"""The tutorial, command by command: each is run, and prints what the page says, figures aside.

On the page a `bash` block is followed by a `text` block: what its commands print, in order. There `…` stands for
anything, in a line or between lines. Before they are compared, both sides are brought to one form: figures become `#`,
neighbours of them one, bars and line breaks vanish. Words, headings, options, file names and signs have to be those
of the page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "tutorial.md"
FIGURE = re.compile(
    r"(?<![\w.])[-+~<]?\d+(?:[ ]\d{3}(?!\d))*(?:[.,]\d+)*(?:e[+-]\d+)?(?: [kMGT](?![\w]))?(?:x|%|~)?(?![\w])|–"
)
BARS = re.compile(r"[█▏▎▍▌▋▊▉]+")
UNITS = re.compile(r"# (?:[KMG]iB|B|[KMG]?B/s|[kMG]?FLOP/s)(?!\w)")


def blocks() -> list[tuple[str, str]]:
    """Commands and what they print."""
    found = re.findall(r"^```bash\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [(commands, printed) for commands, printed in found]


def normal(text: str) -> str:
    """One line with figures masked."""
    masked = FIGURE.sub("#", BARS.sub(" ", text))
    masked = re.sub(r"\s+", " ", UNITS.sub("#", masked))
    return re.sub(r"#(?: (?:%|x))?(?: #(?: (?:%|x))?)*", "#", masked).strip()


def first_missing(expected: str, printed: str) -> str | None:
    """The first piece of the page that is not in what was printed, in order; None where all of it is."""
    found, position = normal(printed), 0
    for piece in (normal(part) for part in expected.split("…")):
        at = found.find(piece, position)
        if at < 0:
            return piece
        position = at + len(piece)
    return None


def run(commands: str, folder: Path) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LONGPOLE_CACHE": str(folder / "cache"),
        "COLUMNS": "110",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", commands],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_every_command_of_the_tutorial_prints_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for commands, expected in blocks():
        printed = run(commands, tmp_path)
        assert first_missing(expected, printed) is None, printed


def test_no_block_of_the_page_is_left_out() -> None:
    text = PAGE.read_text()
    assert len(blocks()) == text.count("```bash") == text.count("```text") == text.count("```") / 4
    assert len(blocks()) >= 5


SAID = """
  step        48.21 ms  (43.29 to 50.78)    84.3 samples/s    100.0 % accounted for
  data        ▍                          0.81 ms   1.7 %   train.py:97 in get_batch
  …
  Is it one layer?   …
  memory copy   4.39 GB/s   4.2 GB/s (3.94 G to 4.29 G)
"""
PRINTED = """
  step        1 048.2 ms  (943 to 1 350)    <0.1 samples/s    99.9 % accounted
    for
  data        ██████                    13.1 ms  20.7 %   train.py:97 in get_batch
  loss        █                          0.1 ms   0.2 %
  Is it one layer?   No: the largest of 18
  memory copy   850 MB/s   832 MB/s (700 M to 1 G)
"""


def test_figures_bars_and_breaks_do_not_count() -> None:
    assert first_missing(SAID, PRINTED) is None


@pytest.mark.parametrize(
    ("word", "other"),
    [
        ("accounted", "explained"),
        ("train.py:97", "train.py"),
        ("get_batch", "batch"),
        ("Is it one layer?", "Is it a layer?"),
        ("memory copy", "copy"),
        (" ms ", " us "),
    ],
)
def test_another_word_is_noticed(word: str, other: str) -> None:
    assert first_missing(SAID, PRINTED.replace(word, other)) is not None


def test_another_order_is_noticed() -> None:
    lines = PRINTED.splitlines()
    assert first_missing(SAID, "\n".join([*lines[:1], *lines[5:], *lines[1:5]])) is not None


@pytest.mark.parametrize("commands", ["longpole run --colour red nothing.py", "longpole dig", "exit 3"])
def test_a_command_that_fails_is_noticed(tmp_path: Path, commands: str) -> None:
    with pytest.raises(AssertionError):
        run(commands, tmp_path)
