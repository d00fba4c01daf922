"""FLOPs, bytes and bounds of device work, on sums written out, and on recorded traces none beats its bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from longpole.analysis.device import device_study
from longpole.analysis.device_costs import CACHES
from longpole.importers import open_trace
from longpole.machine import PEAKS
from made_traces import kernel, opened, runtime, span
from shared_paths import trace_files

if TYPE_CHECKING:
    from pathlib import Path

    from longpole.analysis.study import OpTime, Study

needs_traces = pytest.mark.skipif(not trace_files(), reason="recorded traces are not here; set LONGPOLE_TRACES")
A100: dict[str, Any] = {"deviceProperties": [{"id": 0, "name": "NVIDIA A100-SXM4-80GB"}]}
# [512, 1024] x [1024, 2048]
FLOPS = 2 * 512 * 1024 * 2048
BYTES = 4 * (512 * 1024 + 1024 * 2048 + 512 * 2048)
# float32 may run as tf32: 156 TFLOP/s; 14 MB fit into 40 MB of cache and need not come from memory
BOUND_MS = FLOPS / 156e12 * 1e3


def product(at: float, number: int, kind: str = "float", kernels: int = 1) -> list[dict[str, Any]]:
    """aten::mm of float32 inside aten::matmul, with kernels of 30 us each."""
    dims, types = [[512, 1024], [1024, 2048]], [kind, kind]
    found = [
        span("cpu_op", "aten::matmul", at, 50, Input_Dims=dims, Input_type=types),
        span("cpu_op", "aten::mm", at + 1, 40, Input_Dims=dims, Input_type=types),
    ]
    for index in range(kernels):
        correlation = 10 * number + index
        found.append(runtime("cudaLaunchKernel", at + 2 + index, 1, correlation))
        found.append(kernel(f"sgemm_{index}", at + 100 + 30 * index, 30, correlation=correlation))
    return found


def op_of(study: Study, name: str) -> OpTime:
    return next(op for op in study.ops if op.op == name)


def test_a_product_has_its_flops_bytes_and_bound(tmp_path: Path) -> None:
    study = device_study([opened(tmp_path, [*product(0, 1), *product(200, 2)], **A100)])
    op = op_of(study, "aten::mm")
    assert (op.flops, op.bytes) == (2 * FLOPS, 2 * BYTES)
    assert op.bound_ms == pytest.approx(2 * BOUND_MS)
    assert op.of_ceiling == pytest.approx(BOUND_MS / 0.03)
    assert next(row for row in study.op_classes if row.op_class == "matmul").flops == 2 * FLOPS
    assert any("data-sheet peaks of NVIDIA A100 80GB SXM" in warning for warning in study.run.warnings)
    said = next(a.sentence for a in study.answers if a.question == "Is it the matrix multiplications?")
    assert "of the data-sheet peak" in said


def test_the_kernels_of_one_op_share_its_cost(tmp_path: Path) -> None:
    study = device_study([opened(tmp_path, product(0, 1, kernels=3), **A100)])
    op = op_of(study, "aten::mm")
    assert op.flops == pytest.approx(FLOPS)
    assert op.ms == pytest.approx(0.09)
    assert op.of_ceiling == pytest.approx(BOUND_MS / 0.09)


def test_work_half_hidden_by_other_work_has_half_its_bound(tmp_path: Path) -> None:
    hiding = kernel("sgemm_other", 85, 30, stream=8)  # until 115: half of the product's 100 to 130
    op = op_of(device_study([opened(tmp_path, [*product(0, 1), hiding], **A100)]), "aten::mm")
    assert op.ms == pytest.approx(0.015)
    assert op.flops == pytest.approx(FLOPS)
    assert op.bound_ms == pytest.approx(BOUND_MS / 2)
    assert op.of_ceiling == pytest.approx(BOUND_MS / 0.03)


def test_every_accelerator_with_a_sheet_has_its_cache() -> None:
    """A bound needs both; processors have neither in traces of devices."""
    named = [peak.name for peak in PEAKS if peak.name.startswith(("NVIDIA", "AMD Instinct"))]
    assert set(CACHES) == set(named)


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    no_sheet = device_study([opened(tmp_path, product(0, 1))])
    op = op_of(no_sheet, "aten::mm")
    assert (op.flops, op.bytes) == (FLOPS, BYTES)
    assert (op.bound_ms, op.of_ceiling) == (None, None)
    assert not any("data-sheet" in warning for warning in no_sheet.run.warnings)
    odd = op_of(device_study([opened(tmp_path, product(0, 1, "c10::Float8_e4m3fn"), **A100)]), "aten::mm")
    assert odd.flops == FLOPS
    strange = [
        span("cpu_op", "mine::op", 0, 50, Input_Dims=[[4, 4]], Input_type=["float"]),
        runtime("cudaLaunchKernel", 1, 1, 1),
        kernel("k", 100, 30, correlation=1),
    ]
    own = op_of(device_study([opened(tmp_path, strange, **A100)]), "mine::op")
    assert (own.flops, own.bytes, own.bound_ms) == (None, None, None)
    both = device_study([opened(tmp_path, [*product(200, 1), *strange], **A100)])
    assert next(row for row in both.op_classes if row.op_class == "matmul").flops == FLOPS
    assert next(row for row in both.op_classes if row.op_class == "host").flops is None


@pytest.mark.parametrize("dims", [5, "x", {}, [None], [[None]], [["a"]], [[-1, 3], [3, -1]], [[[1]], 7]])
def test_shapes_that_are_none_are_survived(tmp_path: Path, dims: Any) -> None:
    events = product(0, 1)
    for event in events[:2]:
        event["args"]["Input Dims"] = dims
        event["args"]["Input type"] = [7, None]
    study = device_study([opened(tmp_path, events, **A100)])
    assert op_of(study, "aten::mm").ms == pytest.approx(0.03)


@needs_traces
@pytest.mark.parametrize("path", trace_files(), ids=lambda path: path.name[:48])
def test_no_op_beats_a_data_sheet(path: Path) -> None:
    study = device_study([open_trace(path)])
    beaten = [(op.op, op.shapes, op.of_ceiling) for op in study.ops if (op.of_ceiling or 0.0) > 1.05]
    assert not beaten
    for row in (*study.op_classes, *study.ops):
        assert row.bound_ms is None or row.bound_ms <= 1.05 * row.ms


def convolution(values: Any) -> list[dict[str, Any]]:
    """A 7x7 convolution of stride 2 over 32 images of 224 x 224: 112 x 112 positions."""
    dims = [[32, 3, 224, 224], [64, 3, 7, 7], [], [], [], [], []]
    types = ["float", "float", "", "ScalarList", "ScalarList", "ScalarList", "Scalar"]
    args = {} if values is None else {"Concrete_Inputs": values}
    return [
        span("cpu_op", "aten::cudnn_convolution", 0, 50, Input_Dims=dims, Input_type=types, **args),
        runtime("cudaLaunchKernel", 2, 1, 7),
        kernel("implicit_gemm", 100, 900, correlation=7),
    ]


def test_strides_and_paddings_of_a_trace_give_a_convolution_its_cost(tmp_path: Path) -> None:
    values = ["", "", "[3, 3]", "[2, 2]", "[1, 1]", "1", "False", "False", "True"]
    op = op_of(device_study([opened(tmp_path, convolution(values), **A100)]), "aten::cudnn_convolution")
    assert op.flops == 2 * 32 * 112 * 112 * 64 * 3 * 7 * 7
    assert op.bytes == 4 * (32 * 3 * 224 * 224 + 64 * 3 * 7 * 7 + 32 * 64 * 112 * 112)
    # Of 112 x 7 taps of an axis 3 + 1 fall before the input and 2 after it; a quarter of the products: Winograd.
    products = 2 * 32 * 64 * 3 * (112 * 7 - 6) ** 2 / 4
    assert op.bound_ms is not None
    assert op.bound_ms >= products / 156e12 * 1e3


@pytest.mark.parametrize("values", [None, [], "nothing", ["", "", "[3, 3]", "[0, 2]", "[1, 1]"], [["", ["x"]]], 7])
def test_a_convolution_without_usable_values_has_no_cost(tmp_path: Path, values: Any) -> None:
    op = op_of(device_study([opened(tmp_path, convolution(values), **A100)]), "aten::cudnn_convolution")
    assert (op.flops, op.bound_ms) == (None, None)


def test_the_share_of_the_flops_is_not_told_where_those_of_convolutions_are_unknown(tmp_path: Path) -> None:
    later = [{**event, "ts": event["ts"] + 2000} for event in product(0, 1)]

    def said(values: Any) -> str:
        study = device_study([opened(tmp_path, [*convolution(values), *later], **A100)])
        return next(a.sentence for a in study.answers if a.question == "Is it the matrix multiplications?")

    assert "FLOPs" not in said(None)
    assert "peak" not in said(None)
    known = said(["", "", "[3, 3]", "[2, 2]", "[1, 1]", "1", "False", "False", "True"])
    assert "100 % of the FLOPs that are known" in known
    assert "of the data-sheet peak" in known


def test_without_a_backward_pass_none_of_its_components_takes_the_time(tmp_path: Path) -> None:
    study = device_study([opened(tmp_path, product(0, 1), **A100)])
    answer = next(a for a in study.answers if a.question == "Is it a component of the backward pass?")
    assert (answer.answer, answer.sentence) == ("no", "nothing was differentiated in this recording.")


X, W, Y = [32, 64, 56, 56], [128, 64, 3, 3], [32, 128, 28, 28]
ONE = 2 * 32 * 28 * 28 * 128 * 64 * 3 * 3


def old_training(*sizes: list[int]) -> list[dict[str, Any]]:
    """torch 1.8: no values; a convolution, then backward passes of it whose outputs have these sizes."""
    none: list[Any] = [[]] * 6
    found = [
        span("cpu_op", "aten::cudnn_convolution", 0, 50, Input_Dims=[X, W, *none]),
        runtime("cudaLaunchKernel", 2, 1, 1),
        kernel("sm80_xmma_fprop", 100, 100, correlation=1),
    ]
    for place, size in enumerate(sizes):
        at, number = 300.0 * (place + 1), 10 * (place + 1)
        found += [
            span("cpu_op", "aten::cudnn_convolution_backward", at, 90, Input_Dims=[X, size, W, *none]),
            span("cpu_op", "aten::cudnn_convolution_backward_input", at + 1, 30, Input_Dims=[[], size, W, *none]),
            runtime("cudaLaunchKernel", at + 2, 1, number),
            kernel("dgrad_engine", at + 50, 50, correlation=number),
            span("cpu_op", "aten::cudnn_convolution_backward_weight", at + 40, 30, Input_Dims=[[], size, X, *none]),
            runtime("cudaLaunchKernel", at + 42, 1, number + 1),
            kernel("wgrad_alg0_engine", at + 110, 70, correlation=number + 1),
        ]
    return found


def test_a_backward_pass_tells_what_a_convolution_without_strides_made(tmp_path: Path) -> None:
    study = device_study([opened(tmp_path, old_training(Y), **A100)])
    flops = {op.op: op.flops for op in study.ops if op.op.startswith("aten::")}
    assert flops == {
        "aten::cudnn_convolution": ONE,
        "aten::cudnn_convolution_backward_input": ONE,
        "aten::cudnn_convolution_backward_weight": ONE,
    }
    forward = op_of(study, "aten::cudnn_convolution")
    assert forward.bytes == 4 * (32 * 64 * 56 * 56 + 128 * 64 * 9 + 32 * 128 * 28 * 28)


def test_two_backward_passes_that_disagree_tell_nothing_of_forward(tmp_path: Path) -> None:
    """Strides of 1 and 2 over the same input: which of them forward was is not known, each gradient is its own."""
    study = device_study([opened(tmp_path, old_training(Y, [32, 128, 56, 56]), **A100)])
    assert op_of(study, "aten::cudnn_convolution").flops is None
    weight = [op.flops for op in study.ops if op.op == "aten::cudnn_convolution_backward_weight"]
    assert sorted(flops for flops in weight if flops is not None) == [ONE, 4 * ONE]


@needs_traces
def test_forward_of_a_recorded_resnet_50_has_the_flops_of_its_paper() -> None:
    """4.1e9 multiply-adds an image of 224 x 224 (He et al. 2015, arXiv:1512.03385, has 3.8e9 with other strides)."""
    path = next(path for path in trace_files() if "resnet50_num_workers_4" in path.name)
    study = device_study([open_trace(path)])
    forward = sum(op.flops or 0.0 for op in study.ops if op.role == "forward" and op.op.startswith("aten::cudnn_conv"))
    assert forward / 2 / 32 == pytest.approx(4.087e9, rel=0.01)
