"""A made step of training: each kernel belongs to the phase, role, op class and layer that its launch tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from longpole.analysis.device_attribution import Attribution, attribute
from longpole.analysis.device_marks import phases_by_name
from longpole.analysis.device_phases import host_phases
from longpole.analysis.device_work import product_roles
from longpole.trace import DEVICE_WORK, Kind, OpClass, Phase, Role, Trace
from made_traces import kernel, opened, runtime, span

if TYPE_CHECKING:
    from pathlib import Path

MAIN, ENGINE = 1, 2
GEMM = "ampere_sgemm_128x64_nn"
NODE = "autograd::engine::evaluate_function: "


def op(name: str, ts: float, dur: float, tid: int = MAIN, **args: Any) -> dict[str, Any]:
    return span("cpu_op", name, ts, dur, tid=tid, **args)


def mark(name: str, ts: float, dur: float) -> dict[str, Any]:
    return span("user_annotation", name, ts, dur, tid=MAIN)


def frame(name: str, ts: float, dur: float, tid: int = MAIN) -> dict[str, Any]:
    return span("python_function", name, ts, dur, tid=tid)


def launch(
    at: float, number: int, name: str, start: float, tid: int = MAIN, cat: str = "kernel"
) -> list[dict[str, Any]]:
    """A launch and the work it starts, 5 us long."""
    call = {**runtime("cudaLaunchKernel", at, 2, number), "tid": tid}
    return [call, {**kernel(name, start, 5, correlation=number), "cat": cat}]


def training() -> list[dict[str, Any]]:
    """One step; kernels are called after what they are for."""
    weight = {"Input_Dims": [[64, 32], [32, 16]]}  # g [64, 32] x W [32, 16]
    return [
        mark("ProfilerStep#7", 0, 1000),
        mark("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 10, 190),
        op("aten::stack", 20, 100),
        op("aten::to", 210, 20),
        *launch(212, 1, "Memcpy HtoD (Pinned -> Device)", 220, cat="gpu_memcpy"),
        frame("nn.Module: Net_0", 235, 60),
        frame("nn.Module: Linear_0", 238, 40),
        op("aten::linear", 240, 30, Sequence_number=5),
        op("aten::addmm", 242, 20, Sequence_number=5),
        *launch(245, 2, GEMM, 250),
        op("aten::add", 282, 10, Sequence_number=6),  # of the outer module itself
        *launch(284, 12, "vectorized_elementwise_kernel<4, add>", 288),
        op("aten::cross_entropy_loss", 300, 20, Sequence_number=7),
        *launch(305, 3, "softmax_warp_forward", 310),
        mark("Optimizer.zero_grad#SGD.zero_grad", 330, 15),
        *launch(332, 4, "FillFunctor", 336),
        op(NODE + "NllLossBackward0", 360, 20, ENGINE, Sequence_number=7, Fwd_thread_id=1),
        *launch(365, 5, "nll_loss_backward", 370, ENGINE),
        op(NODE + "AddmmBackward0", 390, 40, ENGINE, Sequence_number=5, Fwd_thread_id=1),
        op("AddmmBackward0", 391, 38, ENGINE, Sequence_number=5, Fwd_thread_id=1, Input_Dims=[[64, 32]]),
        op("aten::mm", 392, 10, ENGINE, **weight),
        *launch(395, 6, GEMM + "_input", 400, ENGINE),
        op("aten::mm", 405, 10, ENGINE, Input_Dims=[[32, 64], [64, 16]]),
        *launch(408, 7, GEMM + "_weight", 412, ENGINE),
        op(NODE + "torch::autograd::AccumulateGrad", 440, 10, ENGINE),
        *launch(442, 13, "vectorized_elementwise_kernel<4, accumulate>", 446, ENGINE),
        op("aten::linalg_vector_norm", 500, 10),
        *launch(503, 8, "reduce_kernel<norm>", 506),
        op("aten::mul_", 515, 10),
        *launch(517, 9, "vectorized_elementwise_kernel<4, clip>", 520),
        mark("Optimizer.step#SGD.step", 600, 50),
        op("aten::_foreach_add_", 610, 30),
        *launch(615, 10, "multi_tensor_apply_kernel", 620),
        op("aten::argmax", 700, 10),
        *launch(703, 11, "reduce_kernel<accuracy>", 706),
    ]


@pytest.fixture
def made(tmp_path: Path) -> Trace:
    return opened(tmp_path, training())


def of_kernels(trace: Trace, column: Any) -> dict[str, int]:
    return {trace.name_of(row): int(column[row]) for row in trace.events.rows_of(*DEVICE_WORK)}


def test_every_kernel_has_the_phase_of_its_launch(made: Trace) -> None:
    _, found = attribute(made)
    assert of_kernels(made, found.phase) == {
        "Memcpy HtoD (Pinned -> Device)": Phase.TRANSFER,
        GEMM: Phase.FORWARD,
        "vectorized_elementwise_kernel<4, add>": Phase.FORWARD,
        "softmax_warp_forward": Phase.LOSS,
        "FillFunctor": Phase.OPTIMIZER,
        "nll_loss_backward": Phase.BACKWARD,
        GEMM + "_input": Phase.BACKWARD,
        GEMM + "_weight": Phase.BACKWARD,
        "vectorized_elementwise_kernel<4, accumulate>": Phase.BACKWARD,
        "reduce_kernel<norm>": Phase.CLIP,
        "vectorized_elementwise_kernel<4, clip>": Phase.CLIP,
        "multi_tensor_apply_kernel": Phase.OPTIMIZER,
        "reduce_kernel<accuracy>": Phase.OTHER,
    }


def test_products_in_backward_have_roles_by_their_shapes(made: Trace) -> None:
    _, found = attribute(made)
    role = of_kernels(made, found.role)
    assert role[GEMM] == Role.FORWARD
    assert role[GEMM + "_input"] == Role.INPUT_GRAD
    assert role[GEMM + "_weight"] == Role.WEIGHT_GRAD
    assert role["vectorized_elementwise_kernel<4, accumulate>"] == Role.WEIGHT_GRAD
    assert role["multi_tensor_apply_kernel"] == Role.NONE


def layer_of(trace: Trace, found: Attribution, name: str) -> str | None:
    row = next(row for row in trace.events.rows_of(*DEVICE_WORK) if trace.name_of(row) == name)
    return found.layers[found.layer[row]] if found.layer[row] >= 0 else None


def test_backward_belongs_to_the_layer_whose_sequence_number_it_carries(made: Trace) -> None:
    _, found = attribute(made)
    assert layer_of(made, found, GEMM) == "Net_0.Linear_0"
    assert layer_of(made, found, GEMM + "_weight") == "Net_0.Linear_0"
    assert layer_of(made, found, "vectorized_elementwise_kernel<4, accumulate>") == "Net_0.Linear_0"
    assert layer_of(made, found, "vectorized_elementwise_kernel<4, add>") == "Net_0"
    assert layer_of(made, found, "nll_loss_backward") is None
    assert found.layer_types == ["Net", "Linear"]


def test_classes_come_from_kernel_names_and_else_from_the_op(made: Trace, tmp_path: Path) -> None:
    _, found = attribute(made)
    assert of_kernels(made, found.op_class)[GEMM + "_weight"] == OpClass.MATMUL
    odd = [op("aten::layer_norm", 0, 20), op("aten::native_layer_norm", 1, 10), *launch(3, 1, "my_kernel", 9)]
    trace = opened(tmp_path, odd)
    assert of_kernels(trace, attribute(trace)[1].op_class) == {"my_kernel": OpClass.NORMALIZATION}


def test_forward_that_runs_again_in_backward_is_recomputing(tmp_path: Path) -> None:
    trace = opened(
        tmp_path,
        [
            frame("nn.Module: Net_0", 0, 20),
            frame("nn.Module: Linear_0", 1, 18),
            op("aten::linear", 2, 10),
            *launch(3, 1, GEMM, 6),
            op(NODE + "CheckpointFunctionBackward", 40, 60, ENGINE, Sequence_number=3, Fwd_thread_id=1),
            op("CheckpointFunctionBackward", 41, 58, ENGINE, Sequence_number=3, Fwd_thread_id=1),
            frame("nn.Module: Linear_0", 43, 20, ENGINE),
            op("aten::linear", 44, 10, ENGINE, Sequence_number=1),
            *launch(46, 2, GEMM + "_again", 50, ENGINE),
            op(NODE + "AddmmBackward0", 70, 20, ENGINE, Sequence_number=1, Fwd_thread_id=2),
            op("aten::mm", 71, 10, ENGINE),
            *launch(72, 3, GEMM + "_gradient", 80, ENGINE),
        ],
    )
    _, found = attribute(trace)
    assert of_kernels(trace, found.phase)[GEMM + "_again"] == Phase.BACKWARD
    assert of_kernels(trace, found.role)[GEMM + "_again"] == Role.RECOMPUTE
    assert of_kernels(trace, found.role)[GEMM + "_gradient"] != Role.RECOMPUTE
    # The module has one path, wherever it runs.
    assert layer_of(trace, found, GEMM + "_again") == layer_of(trace, found, GEMM) == "Net_0.Linear_0"
    assert layer_of(trace, found, GEMM + "_gradient") == "Net_0.Linear_0"


def test_work_of_before_the_recording_has_no_phase_but_its_reason(tmp_path: Path) -> None:
    early = kernel("left_over", 0, 5, correlation=99)
    trace = opened(tmp_path, [early, op("aten::mm", 6, 5, Sequence_number=1), *launch(7, 1, GEMM, 10)])
    _, found = attribute(trace)
    assert of_kernels(trace, found.phase) == {"left_over": Phase.OTHER, GEMM: Phase.FORWARD}
    assert of_kernels(trace, found.launched) == {"left_over": 1, GEMM: 0}


def test_a_collective_is_communication_wherever_it_is_launched(tmp_path: Path) -> None:
    node = op(NODE + "AddmmBackward0", 0, 20, ENGINE, Sequence_number=1, Fwd_thread_id=1)
    trace = opened(tmp_path, [node, *launch(3, 1, "ncclDevKernel_AllReduce_Sum_f32_RING_LL", 9, ENGINE)])
    _, found = attribute(trace)
    assert set(of_kernels(trace, found.phase).values()) == {Phase.COMMUNICATION}
    assert set(of_kernels(trace, found.op_class).values()) == {OpClass.COLLECTIVE}


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("## forward ##", Phase.FORWARD),
        ("## forward:over_arch ##", Phase.FORWARD),
        ("## backward ##", Phase.BACKWARD),
        ("## optimizer ##", Phase.OPTIMIZER),
        ("## wait_for_training_batch ##", Phase.DATA),
        ("## data_load ##", Phase.DATA),
        ("dataloader", Phase.DATA),
        ("validation", Phase.EVALUATION),
        ("clip_grad_norm", Phase.CLIP),
        ("CPU->GPU", Phase.TRANSFER),
        ("DistributedDataParallel.forward", Phase.FORWARD),
        ("mlp(F)", Phase.FORWARD),
        ("dispatch(B)", Phase.BACKWARD),
        ("attn(W)", Phase.BACKWARD),
        # words inside other words, and data that is not fetched
        ("## all2all_data:kjt values ##", None),
        ("## sparse_data_dist ##", None),
        ("test_of_lossless_evaluator", None),
        ("ProfilerStep#3", None),
    ],
)
def test_ranges_of_the_user_name_phases(tmp_path: Path, name: str, phase: Phase | None) -> None:
    trace = opened(tmp_path, [mark(name, 0, 10)])
    [row] = trace.events.rows_of(Kind.ANNOTATION)
    assert phases_by_name(trace)[row] == (-1 if phase is None else phase)


def test_a_step_without_backward_has_no_forward_by_order(tmp_path: Path) -> None:
    trace = opened(tmp_path, [op("aten::relu", 0, 10), op("aten::add", 20, 10)])
    assert set(host_phases(trace).tolist()) == {int(Phase.NOBODY)}


def test_roles_of_products_on_paper() -> None:
    g = [64, 32]
    as_input, as_weight = [g, [32, 16]], [[16, 64], g]
    transposed = [[32, 64], [64, 16]]  # of the weight gradient, made the other way round
    assert product_roles(g, [as_input, as_weight]) == [Role.INPUT_GRAD, Role.WEIGHT_GRAD]
    assert product_roles(g, [as_weight, as_input]) == [Role.WEIGHT_GRAD, Role.INPUT_GRAD]
    assert product_roles(g, [transposed]) == [Role.WEIGHT_GRAD]  # the input needs no gradient
    assert product_roles(g, [as_input]) == [Role.INPUT_GRAD]  # the weight is frozen
    square = [[32, 32], [32, 32]]
    assert product_roles([32, 32], [square, square]) == [Role.INPUT_GRAD, Role.WEIGHT_GRAD]  # by order
    assert product_roles([32, 32], [square]) == [Role.NONE]
    assert product_roles(None, [[], []]) == [Role.INPUT_GRAD, Role.WEIGHT_GRAD]
    assert product_roles(None, [[]]) == [Role.NONE]


def test_work_launched_before_the_recording_has_the_phase_of_its_namesakes(tmp_path: Path) -> None:
    """Old work: a name seen twice in backward, one seen in two phases between such, one seen once, one never."""
    early = [
        kernel("dgrad", 0, 5),
        kernel("shared", 5, 5),
        kernel("dgrad", 10, 5),
        kernel("seen_once", 15, 5),
        kernel("never_seen", 20, 5),
    ]
    recorded = [
        mark("forward", 100, 50),
        *launch(105, 1, "shared", 200),
        mark("backward", 160, 40),
        *launch(165, 2, "dgrad", 210),
        *launch(170, 3, "shared", 220),
        *launch(175, 4, "dgrad", 230),
        *launch(180, 5, "seen_once", 240),
    ]
    trace = opened(tmp_path, [*early, *recorded])
    found = attribute(trace)[1]
    rows = [int(row) for row in trace.events.rows_of(Kind.KERNEL)[:5]]
    phases = [Phase(int(found.phase[row])) for row in rows]
    assert phases == [Phase.BACKWARD, Phase.BACKWARD, Phase.BACKWARD, Phase.OTHER, Phase.OTHER]


def test_a_range_opened_after_the_loss_is_none_of_it(tmp_path: Path) -> None:
    trace = opened(
        tmp_path,
        [
            mark("forward", 0, 60),
            op("aten::cross_entropy_loss", 40, 10),
            op("aten::mul", 52, 5),
            mark("send sparse features", 70, 100),
            op("aten::cat", 80, 20),
            op("aten::mul", 180, 5),
            mark("backward", 200, 50),
        ],
    )
    phase = host_phases(trace)
    found = {(trace.name_of(row), int(trace.events.start_ns[row]) // 1000): Phase(int(phase[row])) for row in range(7)}
    assert found["aten::mul", 52] == Phase.LOSS
    assert found["aten::cat", 80] == Phase.FORWARD
    assert found["aten::mul", 180] == Phase.LOSS


@pytest.mark.parametrize(("name", "phase"), [("aten::conv2d", Phase.FORWARD), ("aten::add", Phase.NOBODY)])
def test_a_network_that_is_not_trained_runs_forward(tmp_path: Path, name: str, phase: Phase) -> None:
    """No gradients, no ranges, no modules: products make it a network, and nothing else that it does is known."""
    trace = opened(tmp_path, [op(name, 0, 20), op("aten::relu", 30, 10), *launch(32, 1, "relu", 40)])
    assert host_phases(trace)[:2].tolist() == [phase, phase]
