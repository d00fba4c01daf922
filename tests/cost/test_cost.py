"""Costs written out on paper, and against torch's own flop counter on what networks really call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.cost import Cost, cost_of
from longpole.cost.collectives import bus_bytes_per_s, bus_factor
from longpole.cost.convolution import output_size
from longpole.cost.recurrent import deepbench_flops, layer_flops
from longpole.trace import Role

if TYPE_CHECKING:
    from collections.abc import Callable


def flops_and_bytes(cost: Cost | None) -> tuple[float | None, float | None]:
    assert cost is not None
    return cost.flops, cost.bytes_moved


def test_matrix_products() -> None:
    # [2, 3] @ [3, 5]: 2*3*5 multiply-adds; 6 + 15 + 10 floats
    assert flops_and_bytes(cost_of("aten::mm", [[2, 3], [3, 5]])) == (60, 4 * 31)
    assert flops_and_bytes(cost_of("aten::addmm", [[5], [2, 3], [3, 5], [], []])) == (60, 4 * 36)
    assert flops_and_bytes(cost_of("aten::bmm", [[7, 2, 3], [7, 3, 5]])) == (420, 4 * 7 * 31)
    assert flops_and_bytes(cost_of("aten::mm", [[2, 3], [3, 5]], dtypes=["c10::BFloat16"] * 2)) == (60, 2 * 31)
    assert flops_and_bytes(cost_of("aten::mv", [[2, 3], [3]])) == (12, 4 * (6 + 3 + 2))
    assert flops_and_bytes(cost_of("aten::dot", [[9], [9]])) == (18, 72)


def test_shapes_that_do_not_fit_are_not_known() -> None:
    assert cost_of("aten::mm", [[2, 3], [4, 5]]) is None
    assert cost_of("aten::mm", []) is None
    assert cost_of("aten::mm", ["x", None]) is None
    assert cost_of("aten::add", [[2, 3], [4, 5]]) is None
    assert cost_of("aten::linear", [[2, 3], [5, 3]]) is None  # a wrapper: addmm inside has the cost
    assert cost_of("mylib::op", [[2, 3]]) is None
    assert cost_of("aten::mkldnn_convolution", [[1, 2, 8, 8], [4, 2, 3, 3], [4], [], [], [], []]) is None
    assert cost_of("aten::_foreach_add_", [[], [], []]) is None
    assert cost_of("aten::nonzero", [[5]]) is None


def convolution(x: list[int], w: list[int], stride: int, padding: int, dilation: int, groups: int) -> Cost | None:
    dims = len(x) - 2
    concrete = [None, None, None, *([v] * dims for v in (padding, stride, dilation)), groups]
    return cost_of("aten::mkldnn_convolution", [x, w, [], [], [], [], []], concrete=concrete)


def test_a_convolution() -> None:
    # x[2, 3, 5, 5], 4 kernels of 3 x 3, no padding: y[2, 4, 3, 3]; 2 * 2*4*9 positions * 27 taps
    cost = convolution([2, 3, 5, 5], [4, 3, 3, 3], 1, 0, 1, 1)
    assert flops_and_bytes(cost) == (2 * 72 * 27, 4 * (150 + 108 + 72))
    assert cost is not None
    assert cost.must_compute == cost.flops
    # Padding of 1: y[2, 4, 5, 5]. Along a dim of 5, 3 taps meet 4 + 5 + 4 = 13 of 15 positions.
    cost = convolution([2, 3, 5, 5], [4, 3, 3, 3], 1, 1, 1, 1)
    assert cost is not None
    assert cost.flops == 2 * 2 * 4 * 25 * 27
    assert cost.must_compute == 2 * 2 * 4 * 3 * 13 * 13


def test_a_depthwise_dilated_strided_convolution_in_one_dim() -> None:
    # x[1, 6, 20], w[6, 1, 3], stride 2, dilation 2: out (20 - 2*2 - 1)//2 + 1 = 8
    cost = convolution([1, 6, 20], [6, 1, 3], 2, 0, 2, 6)
    assert cost is not None
    assert cost.flops == 2 * 6 * 8 * 3


def test_inputs_that_no_tap_meets_need_not_be_read() -> None:
    # 1 x 1 taps with stride 2 meet 4 x 4 of 8 x 8 inputs; 2 x 2 taps with stride 2 meet 6 x 6 of 7 x 7
    for size, kernel, met, out in ((8, 1, 16, 16), (7, 2, 36, 9)):
        cost = convolution([1, 1, size, size], [1, 1, kernel, kernel], 2, 0, 1, 1)
        assert cost is not None
        assert cost.must_move == 4 * (met + kernel * kernel + out)
        assert cost.bytes_moved == 4 * (size * size + kernel * kernel + out)


def test_an_average_over_windows() -> None:
    shapes, concrete = [[1, 1, 5, 5], [], [], [], [], [], []], [None, [2, 2], [2, 2], [0, 0], False, True, None]
    cost = cost_of("aten::avg_pool2d", shapes, concrete=concrete)
    assert cost is not None
    # 2 x 2 windows of 4; 25 read, of which 4 x 4 must be
    assert (cost.flops, cost.bytes_moved, cost.must_move) == (16, 4 * (25 + 4), 4 * (16 + 4))
    assert cost_of("aten::avg_pool2d", shapes, concrete=[None, [2, 2], [2, 2], [0, 0], True, True, None]) is None


def test_both_gradients_of_a_convolution_and_each() -> None:
    shapes = [[2, 4, 3, 3], [2, 3, 5, 5], [4, 3, 3, 3], [], [], [], [], [], [], [], []]

    def concrete(mask: list[bool]) -> list[Any]:
        return [None, None, None, [4], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask]

    one = 2 * 72 * 27
    name = "aten::convolution_backward"
    both = cost_of(name, shapes, concrete=concrete([True, True, True]))
    first_layer = cost_of(name, shapes, concrete=concrete([False, True, True]))
    unknown = cost_of(name, shapes)
    assert flops_and_bytes(both) == (2 * one, 2 * 4 * (72 + 150 + 108))
    assert flops_and_bytes(first_layer) == (one, 4 * (72 + 150 + 108))
    assert unknown is not None
    # A stride of 3 and a padding of 2 make 3 of 5 as well: 1 + 3 + 1 of 9 taps meet the input, on each axis.
    assert (unknown.flops, unknown.must_compute) == (2 * one, 2 * 2 * (5 * 5) * (4 * 3))
    as_text = ["", "", "", "[4]", "[1, 1]", "[0, 0]", "[1, 1]", "False", "[0, 0]", "1", "[False, True, True]"]
    assert cost_of(name, shapes, concrete=as_text) == first_layer
    for role in (Role.INPUT_GRAD, Role.WEIGHT_GRAD):
        part = cost_of(name, shapes, concrete=concrete([True, True, True]), role=role)
        assert part is not None
        assert part.flops == one


@given(
    size=st.integers(1, 12), kernel=st.integers(1, 5), stride=st.integers(1, 4),
    padding=st.integers(0, 4), dilation=st.integers(1, 3),
)  # fmt: skip
def test_taps_are_those_that_fall_inside(size: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    positions = output_size(size, kernel, stride, padding, dilation)
    if positions < 1:
        return
    inside = sum(0 <= o * stride + t * dilation - padding < size for o in range(positions) for t in range(kernel))
    cost = convolution([1, 1, size], [1, 1, kernel], stride, padding, dilation, 1)
    assert cost is not None
    assert cost.must_compute == 2 * inside
    assert cost.flops == 2 * positions * kernel


def test_the_weight_gradient_of_a_grouped_convolution_is_as_much_as_forward() -> None:
    # w[8, 1, 3, 3], y[2, 8, 9, 9]: torch.utils.flop_counter counts the weight gradient `groups` times too high.
    shapes = [[2, 8, 9, 9], [2, 4, 9, 9], [8, 1, 3, 3], *([[]] * 8)]
    cost = cost_of("aten::convolution_backward", shapes, role=Role.WEIGHT_GRAD)
    assert cost is not None
    assert cost.flops == 2 * 2 * 81 * 72


def test_attention_counts_the_pairs_its_mask_leaves() -> None:
    q, k = [1, 2, 3, 8], [1, 2, 4, 8]
    name = "aten::_scaled_dot_product_flash_attention_for_cpu"
    full = cost_of(name, [q, k, k, [], [], [], []], concrete=[None, None, None, 0.0, False, None, None])
    causal = cost_of(name, [q, k, k, [], [], [], []], concrete=[None, None, None, 0.0, True, None, None])
    unknown = cost_of(name, [q, k, k, [], [], [], []])
    # two products of 2 heads * 3 * 4 pairs * 8; causal: 1 + 2 + 3 pairs a head
    assert full is not None
    assert causal is not None
    assert unknown is not None
    assert full.flops == 2 * 2 * (2 * 12 * 8)
    assert causal.flops == 2 * 2 * (2 * 6 * 8)
    assert (unknown.flops, unknown.must_compute) == (full.flops, causal.flops)
    # q and output 48 each, k and v 64 each
    assert full.bytes_moved == 4 * (48 + 64 + 64 + 48)


def test_an_lstm_layer_and_what_deepbench_counts_of_it() -> None:
    # T 5, N 4, in 8, hidden 6: weights 24 x 8 and 24 x 6
    shapes = [[5, 4, 8], [24, 8], [24, 6], [24], [24], [4, 6], [4, 6]]
    cost = cost_of("aten::mkldnn_rnn_layer", shapes)
    assert cost is not None
    assert cost.flops == 2 * 5 * 4 * 24 * (8 + 6) == layer_flops("lstm", 8, 6, 4, 5)
    assert deepbench_flops("lstm", 6, 4, 5) == 2 * 5 * 4 * 24 * 6
    both = cost_of("aten::mkldnn_rnn_layer_backward", shapes)
    assert both is not None
    assert both.flops == 2 * cost.flops
    part = cost_of("aten::mkldnn_rnn_layer_backward", shapes, role=Role.WEIGHT_GRAD)
    assert part is not None
    assert part.flops == cost.flops


def test_streams() -> None:
    assert flops_and_bytes(cost_of("aten::add", [[4, 3], [3], []])) == (12, 4 * (12 + 3 + 12))
    assert flops_and_bytes(cost_of("aten::relu_", [[10]])) == (10, 80)
    assert flops_and_bytes(cost_of("aten::eq", [[10], []], dtypes=["float", "Scalar"])) == (10, 40 + 10)
    assert flops_and_bytes(cost_of("aten::copy_", [[10], [10], []], dtypes=["c10::BFloat16", "float", ""])) == (0, 60)
    assert flops_and_bytes(cost_of("aten::zero_", [[10]])) == (0, 40)
    assert flops_and_bytes(cost_of("aten::sum", [[10]])) == (10, 40)
    assert flops_and_bytes(cost_of("aten::cat", [[[2, 3], [4, 3]], []])) == (0, 2 * 4 * 18)
    assert flops_and_bytes(cost_of("aten::native_layer_norm", [[4, 6], [], [6], [6], []])) == (192, 4 * (24 + 24 + 12))
    assert flops_and_bytes(cost_of("aten::_log_softmax", [[4, 6], [], []])) == (120, 4 * 48)
    assert flops_and_bytes(cost_of("aten::nll_loss_forward", [[4, 6], [4]], dtypes=["float", "long int"])) == (8, 48)
    assert flops_and_bytes(cost_of("aten::index_select", [[11, 8], [], [20]], concrete=[None, 0, None])) == (
        0,
        2 * 4 * 160 + 8 * 20,
    )
    # 2 x 2 windows, stride 2, of [1, 3, 4, 4]: 12 positions, each a value of 4 bytes and an index of 8
    pool = cost_of(
        "aten::max_pool2d_with_indices",
        [[1, 3, 4, 4], [], [], [], [], []],
        concrete=[None, [2, 2], [2, 2], [0, 0], [1, 1], False],
    )
    assert flops_and_bytes(pool) == (48, 4 * 48 + 12 * 12)


def test_the_gradient_of_a_mean_may_be_one_number() -> None:
    cost = cost_of("aten::div", [[10], []])
    assert cost is not None
    assert (cost.bytes_moved, cost.must_move) == (80, 40)


def test_optimizers_of_lists() -> None:
    lists = [[[3, 4], [4]]] * 4
    assert flops_and_bytes(cost_of("aten::_fused_adamw_", lists)) == (15 * 16, 7 * 4 * 16)
    assert flops_and_bytes(cost_of("aten::_fused_sgd_", [*lists[:2], [], []])) == (32, 3 * 4 * 16)
    assert flops_and_bytes(cost_of("aten::_foreach_add_", [lists[0], lists[0], []])) == (16, 3 * 4 * 16)
    assert flops_and_bytes(cost_of("aten::_foreach_mul_", [lists[0], []])) == (16, 2 * 4 * 16)


def test_bus_bandwidth_by_the_definition_of_nccl_tests() -> None:
    assert bus_factor("all_reduce", 4) == 1.5
    assert bus_factor("AllGather", 4) == 0.75
    assert bus_factor("reduce_scatter", 2) == 0.5
    assert bus_factor("broadcast", 8) == 1
    assert bus_factor("gossip", 8) is None
    assert bus_bytes_per_s("allreduce", 1e9, 2, 0.5) == 2e9


def outermost_cost(events: list[Any], words: tuple[str, ...]) -> float:
    """FLOPs of the operators named, each counted where no operator with a cost is round it."""
    total, ends = 0.0, dict[int, int]()
    for event in sorted(events, key=lambda e: (e.start_ns(), -e.duration_ns())):
        thread = event.start_thread_id()
        cost = cost_of(event.name(), event.shapes(), dtypes=event.dtypes(), concrete=event.concrete_inputs())
        if cost is None or not any(word in event.name() for word in words) or event.start_ns() < ends.get(thread, 0):
            continue
        ends[thread] = event.start_ns() + event.duration_ns()
        total += cost.flops or 0.0
    return total


MODULES: dict[str, Callable[[Any], tuple[Any, tuple[int, ...]]]] = {
    "mlp": lambda nn: (nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3)), (6, 7)),
    "conv": lambda nn: (nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 2, 5)), (2, 4, 9, 9)),
    "strided": lambda nn: (nn.Conv2d(4, 8, 3, stride=2), (2, 4, 9, 9)),
    "transposed": lambda nn: (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), (2, 4, 9, 9)),
    "one_dim": lambda nn: (nn.Conv1d(4, 8, 3), (2, 4, 9)),
    "three_dim": lambda nn: (nn.Conv3d(2, 3, 2), (1, 2, 4, 5, 6)),
    "transformer": lambda nn: (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), (3, 5, 8)),
}


@pytest.mark.parametrize("name", MODULES)
def test_against_torchs_flop_counter(name: str) -> None:
    torch = pytest.importorskip("torch")
    counter_mode = pytest.importorskip("torch.utils.flop_counter").FlopCounterMode
    module, shape = MODULES[name](torch.nn)
    data = torch.randn(shape, requires_grad=True)

    def step() -> None:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            module(data).square().mean().backward()

    with counter_mode(display=False) as counter:
        step()
    with torch.profiler.profile(record_shapes=True) as profile:
        step()
    theirs = float(counter.get_total_flops())
    events = profile.profiler.kineto_results.events()
    assert theirs > 0
    assert outermost_cost(events, ("aten::mm", "addmm", "bmm", "convolution")) == theirs


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
def test_without_strides_the_fewest_taps_of_all_that_fit_count(size: int, positions: int, kernel: int) -> None:
    """An output of one image and channel; the fewest of all strides and paddings, one by one."""
    counts = [
        sum(0 <= place * stride + tap - padding < size for place in range(positions) for tap in range(kernel))
        for padding in range(kernel)
        for stride in range(1, size + 2 * kernel)
        if size + 2 * padding >= kernel and output_size(size, kernel, stride, padding, 1) == positions
    ]
    cost = cost_of(
        "aten::cudnn_convolution", [[1, 1, size], [1, 1, kernel]], output=(1, 1, positions), dtypes=["float", "float"]
    )
    if counts:
        assert cost is not None
        assert (cost.flops, cost.must_compute) == (2 * positions * kernel, 2 * min(counts))
    else:
        assert cost is None
