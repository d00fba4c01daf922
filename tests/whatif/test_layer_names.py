"""Names of layers as a user gives them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.whatif.layer_names import parse_patterns, shortest


@pytest.mark.parametrize(
    ("text", "fitting", "other"),
    [
        ("blocks.2", ["blocks.2"], ["blocks.20", "blocks.2.mlp", "blocks", "a.blocks.2"]),
        ("blocks.2-5", ["blocks.2", "blocks.3", "blocks.5"], ["blocks.1", "blocks.6", "blocks.x", "blocks.-3"]),
        ("blocks.*", ["blocks.0", "blocks.x"], ["blocks", "blocks.0.mlp"]),
        ("**.mlp", ["mlp", "blocks.0.mlp"], ["mlp.0", "blocks.0.xmlp"]),
        ("a.**", ["a", "a.b", "a.b.c"], ["b.a"]),
        ("layer[1-2].*.conv?", ["layer1.0.conv1", "layer2.x.conv3"], ["layer3.0.conv1", "layer1.conv1"]),
    ],
)
def test_what_a_name_stands_for(text: str, fitting: list[str], other: list[str]) -> None:
    (pattern,) = parse_patterns([text])
    assert [path for path in fitting + other if pattern.fits(path)] == fitting


def test_several_names_with_commas_count_once() -> None:
    assert [pattern.text for pattern in parse_patterns(["a,b", " b , c"])] == ["a", "b", "c"]


paths = st.lists(st.text("abz019_", min_size=1, max_size=4), min_size=1, max_size=5)


@given(paths)
def test_every_path_fits_itself_and_any_depth(parts: list[str]) -> None:
    path = ".".join(parts)
    for text in (path, "**", ".".join("*" for _ in parts), f"**.{parts[-1]}", f"{parts[0]}.**"):
        assert parse_patterns([text])[0].fits(path)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 60))
def test_a_range_holds_its_ends_and_what_is_between(low: int, length: int, number: int) -> None:
    (pattern,) = parse_patterns([f"blocks.{low}-{low + length}"])
    assert pattern.fits(f"blocks.{number}") == (low <= number <= low + length)


def test_a_hostile_pattern_is_no_slower_than_its_length() -> None:
    (pattern,) = parse_patterns([".".join(["**", "*a*a*a*a*a*b"] * 30)])
    assert not pattern.fits(".".join(["aaaaaaaaaaaaaaaaaaaa"] * 60))


@pytest.mark.parametrize(
    ("paths", "text"),
    [
        (["blocks.0", "blocks.1", "blocks.2"], "blocks.0-2"),
        (["blocks.10", "blocks.9", "blocks.2"], "blocks.2,blocks.9-10"),
        (["blocks.0.mlp", "blocks.1.mlp", "head"], "blocks.0-1.mlp,head"),
        (["a"], "a"),
        ([], ""),
    ],
)
def test_numbers_in_a_row_become_a_range(paths: list[str], text: str) -> None:
    assert shortest(paths) == text


trees = st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.sampled_from(["", ".mlp", ".x.0", ".x.1"]))


@given(st.sets(trees.map(lambda parts: f"{parts[0]}.{parts[1]}{parts[2]}"), min_size=1), st.sets(trees))
def test_the_shortest_names_stand_for_these_layers_and_no_others(paths: set[str], others: set[object]) -> None:
    patterns = parse_patterns([shortest(sorted(paths))])
    every = paths | {f"{a}.{n}{rest}" for a, n, rest in others}  # pyright: ignore[reportGeneralTypeIssues]
    assert {path for path in every if any(pattern.fits(path) for pattern in patterns)} == paths
