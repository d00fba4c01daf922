"""Shapes and values of strangers' traces: any of them gives a cost or None, never an error, never a negative."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import longpole.cost as cost_package
from longpole.cost import cost_of
from longpole.trace import Role

NAMES = [*sorted(cost_package._FORMULAS), "aten::_foreach_add_", "aten::_foreach_norm", "aten::add", "aten::where"]
SIZES = st.integers(-2, 5)
SHAPES = st.one_of(
    st.lists(SIZES, max_size=5), st.lists(st.lists(SIZES, max_size=3), max_size=3), st.none(), st.text(max_size=3),
    st.integers(), st.lists(st.none(), max_size=2), st.floats(),
)  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 4), st.floats(), st.lists(st.integers(-2, 4), max_size=3),
    st.text(max_size=4), st.sampled_from(["[1, 1]", "True", "False", "[0, 0]", "1", "[[", "{}", "[True, False, True]"]),
    st.lists(st.booleans(), max_size=3),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", NAMES)
@given(
    shapes=st.lists(SHAPES, max_size=12), concrete=st.lists(VALUES, max_size=14),
    dtypes=st.lists(st.sampled_from(["float", "c10::Half", "", "?", "Scalar"]), max_size=12),
    role=st.sampled_from([None, Role.INPUT_GRAD, Role.WEIGHT_GRAD, Role.FORWARD]),
)  # fmt: skip
def test_nothing_a_trace_can_say_is_an_error(
    name: str, shapes: list[Any], concrete: list[Any], dtypes: list[str], role: Role | None
) -> None:
    cost = cost_of(name, shapes, dtypes=dtypes, concrete=concrete, role=role)
    if cost is not None:
        for value in (cost.flops, cost.bytes_moved, cost.must_compute, cost.must_move):
            assert value is None or value >= 0
        assert cost.flops is None or cost.must_compute is None or cost.must_compute <= cost.flops
        assert cost.bytes_moved is None or cost.must_move is None or cost.must_move <= cost.bytes_moved


FIT = st.lists(st.integers(1, 6), min_size=4, max_size=4)


@settings(max_examples=200, deadline=None)
@given(
    x=FIT, w=FIT, dy=FIT, stride=st.lists(st.integers(-1, 3), min_size=1, max_size=2),
    padding=st.lists(st.integers(-1, 3), min_size=1, max_size=2), transposed=st.booleans(), groups=st.integers(-1, 3),
)  # fmt: skip
def test_convolutions_of_any_geometry(
    x: list[int], w: list[int], dy: list[int], stride: list[int], padding: list[int], transposed: bool, groups: int
) -> None:
    common = [stride, padding, [1, 1], transposed, [0, 0], groups]
    for name, shapes, concrete in (
        ("aten::convolution_backward", [dy, x, w, *([[]] * 8)], [None, None, None, [1], *common, [True, True, False]]),
        ("aten::_convolution", [x, w, *([[]] * 11)], [None, None, None, *common]),
        ("aten::mkldnn_convolution", [x, w, *([[]] * 5)], [None, None, None, padding, stride, [1, 1], groups]),
        ("aten::max_pool2d_with_indices", [x, *([[]] * 5)], [None, w[:2], stride, padding, [1, 1], False]),
    ):
        cost = cost_of(name, shapes, concrete=concrete)
        if cost is not None:
            assert cost.bytes_moved is None or cost.bytes_moved >= 0
            assert cost.must_compute is None or cost.must_compute >= 0


def test_sizes_beyond_reason_take_no_time_and_no_memory() -> None:
    huge = 2**40
    shapes = [[1, 1, huge], [1, 1, huge // 2], [], [], [], [], []]
    cost = cost_of("aten::mkldnn_convolution", shapes, concrete=[None, None, None, [0], [1], [1], 1])
    assert cost is not None
    assert cost.must_compute == 0
