"""What is said of a result, on a terminal and on a page, hostile names included; and the JSON."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import msgspec
import pytest
from rich.console import Console

from longpole.analysis.converge_results import Convergence, Crossing, Curve, Metric, SeedRun, Side, Smoothing, Target
from longpole.capture.launch import Target as Launched
from longpole.cli.converge import sides_of, ways_of
from longpole.convergence.compare import compare
from longpole.convergence.gather import Wish
from longpole.convergence.protocol import over_seeds
from longpole.convergence.study import headline
from longpole.report.converge import show, text_report
from longpole.report.converge_page import page

HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m\u202e"


def made_side(label: str, per_step_s: float, batch_size: int | None = 32) -> Side:
    """Three runs that fall from 2 to 1 in 100 steps and reach 1.5 at step 50 or so."""
    steps = list(range(1, 101))
    values: list[float | None] = [2 - step / 100 for step in steps]
    values[7] = None
    runs = [
        SeedRun(
            seed, 100, 100 * per_step_s, per_step_s, Crossing(50 + seed, (50 + seed) * per_step_s, 1.5), 1.0, 100,
            Curve(steps, [step * per_step_s for step in steps], values, values), following_share=0.0004,
        )
        for seed in range(3)
    ]  # fmt: skip
    spread = over_seeds([50.0, 51.0, 52.0]), over_seeds([(50 + seed) * per_step_s for seed in range(3)])
    return Side(
        label, "train.py", runs=runs, steps=spread[0], seconds=spread[1], step_s=per_step_s, batch_size=batch_size
    )


def made(*sides: Side, name: str = "loss") -> Convergence:
    found = Convergence(
        metric=Metric(name, "backward", "falls", "by its name", ["accuracy"]),
        target=Target(1.5, False, "as asked"),
        smoothing=Smoothing(1, "not smoothed"),
        sides=[*sides],
    )
    found.comparison = compare(sides[0], sides[1]) if len(sides) == 2 else None
    found.headline = headline(found)
    return found


def test_the_answer_is_steps_times_seconds_a_step() -> None:
    """51 steps of 0.02 s are 1.02 s."""
    text = text_report(made(made_side("train.py", 0.02)))
    assert text.startswith("1.02 s to loss 1.5: 51 steps at 20 ms a step")
    assert "3 of 3" in text
    assert "--metric" in text
    assert "<0.1 %" in text


def test_two_sides_show_the_parts_and_both_axes() -> None:
    text = text_report(made(made_side("A", 0.02), made_side("B", 0.01, 64)))
    assert "B reaches the target sooner than A: 0.50" in text
    assert "B needed fewer steps on 0 of 3 seeds." in text
    for axis in ("steps", "samples", "seconds"):
        assert re.search(rf"^ +{axis}$", text, re.MULTILINE)


def test_never_reached_says_so_with_the_best() -> None:
    side = made_side("train.py", 0.02)
    for run in side.runs:
        run.reached = None
    side.seconds = side.steps = over_seeds([None, None, None])
    assert headline(made(side)) == "loss 1.5 was never reached in 3 runs; the best was 1."


@pytest.mark.parametrize("width", [20, 60, 80, 132])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    out = io.StringIO()
    show(made(made_side("from scratch", 0.02), made_side("from weights.pt", 0.01)), Console(file=out, width=width))
    assert max(map(len, out.getvalue().splitlines())) <= max(width, 60)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_page_draws_every_axis_asks_for_nothing_and_runs_nothing_of_a_name() -> None:
    document = page(made(made_side(HOSTILE, 0.02), made_side("B", 0.01), name=HOSTILE))
    tags = Tags()
    tags.feed(document)
    names = [tag for tag, _ in tags.seen]
    assert names.count("svg") == 3
    assert names.count("circle") == 3 * 2 * 3
    assert not {"script", "img", "iframe"} & set(names)
    assert not [attrs for tag, attrs in tags.seen if "src" in attrs or (tag == "link" and attrs["href"] != "data:,")]
    assert "default-src 'none'" in document
    assert "\x1b" not in document
    assert "against samples" in document
    assert "against samples" not in page(made(made_side("A", 0.02, None)))


def test_the_json_is_read_back_as_it_was() -> None:
    found = made(made_side("A", 0.02), made_side("B", 0.01))
    again = msgspec.json.decode(found.to_json(), type=Convergence)
    assert again == found
    assert (again.schema, again.version) == ("longpole.convergence", 1)


@pytest.mark.parametrize(
    ("target", "sides"),
    [
        (Launched("a.py", ["--lr", "1"]), [["a.py", "--lr", "1"]]),
        (Launched("a.py", ["--lr", "1", "--", "b.py", "-x"]), [["a.py", "--lr", "1"], ["b.py", "-x"]]),
        (Launched("a.py", ["--lr", "1", "--", "--lr", "2"]), [["a.py", "--lr", "1"], ["a.py", "--lr", "2"]]),
        (Launched("a.py", ["--lr", "1", "--"]), [["a.py", "--lr", "1"], ["a.py"]]),
        (Launched("m", ["--", "-x"], is_module=True), [["-m", "m"], ["-m", "m", "-x"]]),
        (Launched("a.py", ["--", "-m", "m", "--", "y"]), [["a.py"], ["-m", "m", "--", "y"]]),
        (None, []),
    ],
)
def test_two_ways_are_told_apart_by_two_dashes(target: Launched | None, sides: list[list[str]]) -> None:
    assert sides_of(target) == sides


@pytest.mark.parametrize(
    ("sides", "labels"),
    [
        ([["a.py"], ["b.py", "-x"]], ["A (a.py)", "B (b.py)"]),
        ([["a.py"], ["a.py", "--lr", "1"]], ["A (no flags)", "B (--lr 1)"]),
        ([["-m", "m", "-x"], ["-m", "m", "y" * 50]], ["A (-x)", f"B ({'y' * 39}…)"]),
    ],
)
def test_two_ways_are_called_by_what_tells_them_apart(sides: list[list[str]], labels: list[str]) -> None:
    assert [way.label for way in ways_of(sides, Wish(), {"init": None})] == labels
