"""What can be typed after --vary, and what it becomes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.capture.launch import Target
from longpole.cli.sweep import take_vary
from longpole.errors import LongpoleError
from longpole.sweep.axes import (
    Axis,
    Point,
    arguments_of,
    changes_of,
    is_axis,
    order_of,
    parse_axes,
    points_of,
)
from longpole.whatif.changes import Changes


def test_axes_are_read_in_any_order() -> None:
    assert parse_axes(["threads=1,2", "batch=8,16,32"]) == (Axis("batch", (8, 16, 32)), Axis("threads", (1, 2)))
    assert parse_axes(["--batch-size=8,16"]) == (Axis("batch", (8, 16), "--batch-size"),)
    assert parse_axes(["-b=8,16", "threads=2"]) == (Axis("batch", (8, 16), "-b"), Axis("threads", (2,)))


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], "nothing is varied"),
        (["batch=8"], "nothing is varied"),
        (["batch=8", "threads=2"], "nothing is varied"),
        (["batch"], "no list of whole numbers"),
        (["batch="], "no list of whole numbers"),
        (["batch=8,,16"], "no list of whole numbers"),
        (["batch=8,a"], "no list of whole numbers"),
        (["batch=8.5,9"], "no list of whole numbers"),
        (["batch=-8,9"], "no list of whole numbers"),
        (["batch=٣,٤"], "no list of whole numbers"),
        (["batch=0,8"], "above 0"),
        (["batch=8,8"], "each there once"),
        (["batch=" + "9" * 30 + ",8"], "above 0"),
        (["threads=" + ",".join(map(str, range(1, 66)))], "at most 64"),
        (["workers=1,2"], "workers cannot be varied"),
        (["=1,2"], "nothing cannot be varied"),
        (["-=1,2"], "cannot be varied"),
        (["batch=1,2", "--batch-size=1,2"], "only one batch"),
        (["threads=1,2", "threads=1,4"], "only one batch"),
    ],
)
def test_what_is_no_axis_is_said_in_one_line(texts: list[str], said: str) -> None:
    with pytest.raises(LongpoleError, match=said) as raised:
        parse_axes(texts)
    assert "\n" not in str(raised.value)


@given(st.text(max_size=40))
def test_any_text_is_an_axis_or_one_line(text: str) -> None:
    if is_axis(text):
        assert "=" in text
    else:
        with pytest.raises(LongpoleError):
            parse_axes([text])


def test_every_combination_is_a_point() -> None:
    points = points_of(parse_axes(["batch=8,16", "threads=1,2"]))
    assert points == [Point(8, 1), Point(8, 2), Point(16, 1), Point(16, 2)]
    assert str(points[0]) == "batch 8, threads 1"


def test_each_round_has_every_point_once_in_an_order_of_its_own() -> None:
    points = points_of(parse_axes(["batch=1,2,4,8", "threads=1,2"]))
    order = order_of(points, 4)
    rounds = [[point for number, point in order if number == round_] for round_ in range(4)]
    assert all(sorted(found) == sorted(points) for found in rounds)
    assert len({tuple(found) for found in rounds}) == 4
    assert order == order_of(points, 4), "a sweep that goes on later goes on in the same order"


@pytest.mark.parametrize(
    ("flag", "args", "expected"),
    [
        ("--batch-size", ["--lr", "1"], ["--lr", "1", "--batch-size=8"]),
        ("--batch-size", ["--batch-size", "4", "--lr", "1"], ["--lr", "1", "--batch-size=8"]),
        ("--batch-size", ["--batch-size=4", "x"], ["x", "--batch-size=8"]),
        ("--batch-size", ["--batch-size-eval=4"], ["--batch-size-eval=4", "--batch-size=8"]),
        ("-b", ["-b", "4", "data"], ["data", "-b", "8"]),
    ],
)
def test_a_flag_takes_the_place_of_the_scripts_own(flag: str, args: list[str], expected: list[str]) -> None:
    axes = (Axis("batch", (8, 16), flag),)
    assert arguments_of(Point(8), axes, args) == expected
    assert changes_of(Point(8), axes) == Changes()


def test_a_batch_without_a_flag_is_a_change() -> None:
    axes = (Axis("batch", (8, 16)), Axis("threads", (1, 2)))
    assert arguments_of(Point(8, 2), axes, ["x"]) == ["x"]
    assert changes_of(Point(8, 2), axes) == Changes(batch_size=8, threads=2)


# -- --vary behind the script ------------------------------------------------------------------------------------


def taken(args: list[str], vary: list[str] | None = None) -> tuple[list[str], list[str]]:
    target, found = take_vary(Target("train.py", args), vary or [])
    return list(target.args), found


def test_vary_may_stand_at_the_end() -> None:
    args = ["--lr", "1", "--vary", "batch=8,16", "--vary=threads=1,2"]
    assert taken(args) == (["--lr", "1"], ["batch=8,16", "threads=1,2"])


@pytest.mark.parametrize(
    "args",
    [
        ["--vary", "colour"],  # no axis of ours
        ["--vary", "batch=8,16", "--lr", "1"],  # not at the end
        ["--", "--vary", "batch=8,16"],
        ["--vary"],
    ],
)
def test_what_can_be_the_scripts_own_is_left_to_it(args: list[str]) -> None:
    assert taken(args) == (args, [])


def test_after_ours_everything_is_the_scripts() -> None:
    args = ["--vary", "batch=8,16"]
    assert taken(args, ["threads=1,2"]) == (args, ["threads=1,2"])


def test_no_script_is_one_line() -> None:
    with pytest.raises(LongpoleError, match="which script"):
        take_vary(None, [])
