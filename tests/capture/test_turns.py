"""Which optimizer step ends a turn of the loop, on the loops that people write."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from longpole.capture.turns import PATIENCE, TurnFinder


def ends(order: str) -> str:
    """`|` after each step of this order that ends a turn."""
    turns = TurnFinder()
    return "".join(name + ("|" if turns.stepped(ord(name)) else "") for name in order)


def test_one_optimizer_ends_a_turn_each_time() -> None:
    assert ends("aaa") == "a|a|a|"


def test_the_two_of_a_gan_are_one_turn() -> None:
    assert ends("dgdgdg") == "d|g|dg|dg|"


def test_five_critic_steps_and_one_generator_step_are_one_turn() -> None:
    assert ends("dddddg" * 3).endswith("g|dddddg|dddddg|")


def test_an_optimizer_that_comes_late_joins() -> None:
    assert ends("aaa" + "ab" * 3) == "a|a|a|a|b|ab|ab|"


def test_an_optimizer_that_stopped_is_waited_for_no_longer() -> None:
    after = ends("ab" * 3 + "a" * (PATIENCE + 4)).rpartition("b|")[2]
    assert after == "a" * (PATIENCE + 1) + "|a|a|a|"


def test_one_that_steps_now_and_then_ends_no_turn_once_that_is_known() -> None:
    every = 2 * PATIENCE
    order = ("a" * every + "b") * 4
    last = ends(order)[len(ends(order[: 2 * (every + 1)])) :]
    assert last == ("a|" * every + "b") * 2


def test_phases_of_two_optimizers_in_turn_are_found_both() -> None:
    found = ends(("d" * 100 + "g" * 100) * 2)
    assert found.count("|") >= 400 - 4 * (PATIENCE + 2)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6, unique=True), st.integers(2, 8))
def test_any_fixed_order_settles_into_one_turn_a_round(names: list[str], rounds: int) -> None:
    order = "".join(names)
    first = len(ends(order))
    assert ends(order * rounds)[first:] == (order + "|") * (rounds - 1)
