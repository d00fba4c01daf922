"""Every operation runs on a small size to a checked result; the check itself can fail."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from longpole.bench.devices import device_of  # noqa: E402
from longpole.bench.flags import size_from_flags  # noqa: E402
from longpole.bench.operations import BUILDERS, Where  # noqa: E402
from longpole.bench.operations.piece import relative_error, sample, tolerance  # noqa: E402
from longpole.bench.run import Options, in_order, run_size, run_sizes  # noqa: E402
from longpole.bench.suites import Size, load_suite, one_size  # noqa: E402
from longpole.bench.timing import Protocol  # noqa: E402
from longpole.errors import LongpoleError  # noqa: E402

QUICK = Options(protocol=Protocol(budget_s=0.001))
SMALL = {
    "gemm": "--m 13 --n 7 --k 20 --b-t 1",
    "linear": "--tokens 9 --inputs 5 --outputs 6",
    "conv": "--n 3 --c 4 --h 9 --w 8 --k 6 --filter-h 3 --filter-w 2 --pad-h 1 --stride-w 2",
    "rnn": "--type gru --hidden 8 --batch 3 --timesteps 4",
    "sparse_gemm": "--m 40 --n 3 --k 30 --sparsity 0.8",
    "attention": "--batch 2 --heads 4 --kv-heads 2 --seq-q 11 --seq-kv 11 --head-dim 8 --causal 1",
    "norm": "--rows 12 --dim 16",
    "softmax_loss": "--rows 12 --classes 9",
    "embedding": "--num-rows 30 --dim 4 --num-indices 12 --mode sum --pooling-factor 3",
    "optimizer": "--n-params 60 --n-tensors 3",
    "elementwise": "--elements 512 --kind gelu",
}


@pytest.mark.parametrize("op", SMALL)
def test_a_small_size_of_each_operation_is_right(op: str) -> None:
    rows = run_size(size_from_flags(op, SMALL[op].split()), QUICK, device_of("cpu"), None)
    assert rows
    for row in rows:
        assert row.skipped is None, row.skipped
        assert row.error is not None
        assert row.correct, f"{row.direction}: {row.error} > {row.tolerance}"
        assert row.samples >= 5
        assert row.median_ms is not None
        assert row.median_ms > 0


@pytest.mark.parametrize("kind", ["vanilla", "lstm", "gru"])
def test_recurrent_layers_by_both_definitions_and_every_direction(kind: str) -> None:
    size = size_from_flags("rnn", f"--type {kind} --hidden 8 --batch 3 --timesteps 4".split())
    rows = run_size(size, QUICK, device_of("cpu"), None)
    directions = ["forward", "input_grad", "weight_grad", "backward"]
    assert [row.direction for row in rows] == [
        f"{name} {each}" for name in ("recurrent", "layer") for each in directions
    ]
    assert all(row.correct for row in rows)
    gates = {"vanilla": 1, "lstm": 4, "gru": 3}[kind]
    assert rows[0].flops == 2 * gates * 8 * 8 * 3 * 4
    assert rows[4].flops == 2 * rows[0].flops


def test_the_recurrence_is_that_of_the_layer_whose_input_product_is_the_identity() -> None:
    from longpole.bench.operations.recurrents import Recurrent

    where = Where("fp64", "cpu")
    own, layer = Recurrent("lstm", 5, where), torch.nn.LSTM(5, 5).double()
    with torch.no_grad():
        layer.weight_hh_l0.copy_(own.weight)
        layer.weight_ih_l0.copy_(torch.eye(5).repeat(4, 1))
        layer.bias_hh_l0.zero_()
        layer.bias_ih_l0.zero_()
    x = where.random(6, 2, 5)
    assert torch.allclose(own(x)[0], layer(x)[0])


@pytest.mark.parametrize("kind", ["vanilla", "lstm", "gru"])
@pytest.mark.parametrize("whole_layer", [False, True])
def test_exact_results_of_recurrent_layers_are_those_of_autograd(kind: str, whole_layer: bool) -> None:
    from longpole.bench.operations.exact_recurrents import exact_training
    from longpole.bench.operations.recurrents import Recurrent

    where = Where("fp64", "cpu")
    layers = {"vanilla": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    options = {"nonlinearity": "relu"} if kind == "vanilla" else {}
    module = layers[kind](5, 5, **options).double() if whole_layer else Recurrent(kind, 5, where)
    x, dy = where.random(6, 2, 5).requires_grad_(), where.random(6, 2, 5)
    names = ["x", *(name for name, _ in module.named_parameters())]
    expected = torch.autograd.grad(module(x)[0], [x, *module.parameters()], dy)
    found = exact_training(kind, module, x.detach(), dy)
    assert set(found) == {"y", *names}
    assert torch.allclose(found["y"], module(x)[0])
    for name, each in zip(names, expected, strict=True):
        assert torch.allclose(found[name], each, rtol=1e-12, atol=1e-12), name


@pytest.mark.parametrize("whole_layer", [False, True])
def test_a_wrong_result_of_a_recurrent_layer_is_seen(whole_layer: bool) -> None:
    from longpole.bench.operations.exact_recurrents import output_error, training_errors
    from longpole.bench.operations.recurrents import Recurrent

    where = Where("fp32", "cpu")
    module = torch.nn.GRU(5, 5) if whole_layer else Recurrent("gru", 5, where)
    x, dy = where.random(6, 4, 5).requires_grad_(), where.random(6, 4, 5)
    y = module(x)[0]
    assert output_error("gru", module, x, y) < 1e-6
    assert output_error("gru", module, x, 1.01 * y) > 5e-3
    right = training_errors("gru", module, x, y, dy)
    wrong = training_errors("gru", module, x, 1.01 * y, dy)
    assert max(right.values()) < 1e-5
    assert min(wrong.values()) > 5e-3


@pytest.mark.parametrize(("a_t", "b_t"), [("0", "0"), ("1", "0"), ("0", "1"), ("1", "1")])
def test_columns_of_the_original_become_rows(a_t: str, b_t: str) -> None:
    size = one_size("gemm", {"m": 3, "n": 4, "k": 5, "a_t": a_t, "b_t": b_t})
    (piece,) = BUILDERS["gemm"](size, Where("fp64", "cpu"))
    out = piece.work()
    assert isinstance(out, torch.Tensor)
    assert out.shape == (4, 3)  # tokens by output features
    assert piece.error() <= piece.tolerance


@pytest.mark.parametrize("suite", ["deepbench-train", "deepbench-inference-server", "deepbench-inference-device"])
@pytest.mark.parametrize("op", ["gemm", "conv", "rnn", "sparse_gemm"])
def test_the_smallest_of_each_suite_is_right(suite: str, op: str) -> None:
    sizes = [size for size in load_suite(suite) if size.op == op]
    if not sizes:
        return
    for row in run_size(in_order(sizes)[0], QUICK, device_of("cpu"), None):
        assert row.correct, row.label


@pytest.mark.parametrize(
    "row",
    [
        {"op": "norm", "kind": "batchnorm2d (train)", "rows": "128", "dim": "8", "layout": "N2 8x8"},
        {"op": "norm", "kind": "groupnorm32", "rows": "128", "dim": "64", "layout": "N2 C64 8x8 G32"},
        {"op": "norm", "kind": "rmsnorm", "rows": "12", "dim": "8", "layout": ""},
        {"op": "softmax_loss", "kind": "softmax (unfused attention)", "rows": "12", "classes": "9", "dtype": ""},
        {"op": "softmax_loss", "kind": "fused linear+cross_entropy", "rows": "12", "classes": "9",
         "dtype": "bf16 (hidden 16)"},
        {"op": "embedding", "kind": "embedding", "num_rows": "9", "dim": "4", "num_indices": "20",
         "pooling_factor": "1", "mode": "none"},
        {"op": "optimizer", "optimizer": "SGD+momentum", "n_params": "60", "n_tensors": "3", "min_bytes_moved": "0"},
        {"op": "optimizer", "optimizer": "clip_grad_norm", "n_params": "60", "n_tensors": "3", "min_bytes_moved": "0"},
        {"op": "optimizer", "optimizer": "zero_grad", "n_params": "60", "n_tensors": "3", "min_bytes_moved": "0"},
        *({"op": "elementwise", "kind": kind, "elements": "8192"} for kind in (
            "relu", "residual_add", "bias_add", "swiglu (silu(a)*b)", "dropout p=0.1", "rope q,k",
            "stream copy 256 MiB", "stream triad 256 MiB")),
        {"op": "elementwise", "kind": "maxpool 3x3 s2", "elements": "802816"},
        {"op": "elementwise", "kind": "adaptive_avgpool", "elements": "6272"},
        {"op": "grouped_gemm", "layer": "l", "pass": "fwd", "groups": "3", "m": "4", "n_per_group": "6",
         "k": "5", "routing": "skewed"},
        {"op": "attention", "kind": "MLA (qk 12, v 4)", "batch": "1", "heads": "2", "kv_heads": "2",
         "seq_q": "6", "seq_kv": "6", "head_dim": "12", "causal": "0"},
    ],
)  # fmt: skip
def test_the_kinds_of_the_modern_suite(row: dict[str, str]) -> None:
    size = one_size(row["op"], {"network": "test", **row})
    rows = run_size(size, QUICK, device_of("cpu"), None)
    assert rows
    for found in rows:
        assert found.skipped is None, found.skipped
        assert found.correct, f"{found.direction}: {found.error} > {found.tolerance}"


def test_a_wrong_result_is_found() -> None:
    exact = torch.randn(5, 5, dtype=torch.float64)
    assert relative_error(exact.float(), exact) < 1e-7
    assert relative_error(exact.float() * 1.01, exact) > tolerance(Where("fp32", "cpu"), 1000)
    assert relative_error(torch.full((5, 5), float("nan")), exact) == float("inf")


def test_bf16_is_checked_by_its_own_rounding() -> None:
    rows = run_size(size_from_flags("gemm", SMALL["gemm"].split()), Options(dtype="bf16", protocol=Protocol(0.001)),
                    device_of("cpu"), None)  # fmt: skip
    assert rows[0].correct
    assert rows[0].error is not None
    assert rows[0].error > 1e-4


def test_samples_hold_both_ends_and_no_more_than_asked() -> None:
    assert list(sample(3, 5)) == [0, 1, 2]
    found = list(sample(1000, 48))
    assert (found[0], found[-1], len(found)) == (0, 999, 48)


def test_what_cannot_be_done_is_skipped_with_the_reason_and_the_rest_goes_on() -> None:
    bad = one_size("elementwise", {"network": "x", "kind": "H2D copy of a batch", "elements": 16})
    huge = one_size("gemm", {"m": 2**30, "n": 2**30, "k": 1, "a_t": 0, "b_t": 0})
    good = size_from_flags("gemm", SMALL["gemm"].split())
    rows = [row for found in run_sizes([bad, huge, good], QUICK) for row in found]
    reasons = [row.skipped for row in rows]
    assert reasons[0] is not None
    assert "no device here" in reasons[0]
    assert sum(reason is None for reason in reasons) == 1
    assert any(reason is not None and "GiB" in reason for reason in reasons)


def test_a_budget_of_nothing_begins_nothing_and_the_order_is_by_work() -> None:
    sizes = [size for size in load_suite("deepbench-train") if size.op == "gemm"]
    assert list(run_sizes(sizes, Options(budget_s=0.0))) == []
    ordered = in_order(sizes)
    assert in_order(ordered[::-1]) == ordered
    # 2 * 512 * 16 * 512 operations, and 40 for each of 512 * 16 + 16 * 512 + 512 * 512 floats: the least of all
    assert (ordered[0].row["m"], ordered[0].row["n"], ordered[0].row["k"]) == ("512", "16", "512")
    modern = [size for size in load_suite("modern") if size.op in ("embedding", "gemm")]
    assert in_order(modern)[-1].flops > 1e12 or in_order(modern)[-1].op == "embedding"


def test_a_device_that_is_not_here_is_one_line() -> None:
    with pytest.raises(LongpoleError, match="no device"):
        device_of("npu:0")


def test_random_data_is_of_the_real_type_and_differs_between_operands() -> None:
    where = Where("fp16", "cpu", seed=3)
    a, b = where.random(64), where.random(64)
    assert a.dtype is torch.float16
    assert not torch.equal(a, b)
    assert int((a == 0).sum()) < 4  # the original's half matrices were nearly all zeros
    assert torch.equal(a, Where("fp16", "cpu", seed=3).random(64))
    assert isinstance(size_from_flags("linear", SMALL["linear"].split()), Size)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("op", ["gemm", "linear", "conv"])
def test_a_missing_term_in_ten_is_found_in_types_of_16_bits_too(op: str, dtype: str) -> None:
    """Sums of 2,000 terms without a tenth of them are a third off: the root of 0.1 of their norm."""
    shape = {
        "gemm": "--m 40 --n 30 --k 2000", "linear": "--tokens 30 --inputs 2000 --outputs 40",
        "conv": "--n 2 --c 500 --h 5 --w 5 --k 8 --filter-h 2 --filter-w 2",
    }[op]  # fmt: skip
    pieces = list(BUILDERS[op](size_from_flags(op, shape.split()), Where(dtype, "cpu")))
    assert all(piece.error() <= piece.tolerance < 0.1**0.5 / 2 for piece in pieces)


def test_no_result_is_allowed_to_be_half_off() -> None:
    assert tolerance(Where("bf16", "cpu"), 10**6, products=16) == 0.5
    assert tolerance(Where("fp32", "cpu"), 100) == pytest.approx(14 * 2.0**-23)
