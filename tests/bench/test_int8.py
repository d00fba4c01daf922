"""Products of int8: exact to the last bit, and what torch has no int8 for is skipped with the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from longpole.bench.devices import device_of  # noqa: E402
from longpole.bench.flags import size_from_flags  # noqa: E402
from longpole.bench.operations import Where  # noqa: E402
from longpole.bench.operations.products import gemm  # noqa: E402
from longpole.bench.run import Options, run_size  # noqa: E402
from longpole.bench.suites import one_size  # noqa: E402
from longpole.bench.timing import Protocol  # noqa: E402

INT8 = Options(dtype="int8", protocol=Protocol(budget_s=0.001))


@pytest.mark.parametrize("transposed", ["", "--a-t 1", "--b-t 1", "--a-t 1 --b-t 1"])
def test_a_product_of_whole_numbers_is_exact(transposed: str) -> None:
    size = size_from_flags("gemm", f"--m 60 --n 7 --k 300 {transposed}".split())
    (row,) = run_size(size, INT8, device_of("cpu"), None)
    assert (row.skipped, row.correct, row.error, row.tolerance) == (None, True, 0.0, 0.0)
    # 7 x 300 and 300 x 60 numbers of one byte, 7 x 60 sums of four
    assert (row.flops, row.bytes) == (2 * 60 * 7 * 300, 7 * 300 + 300 * 60 + 4 * 7 * 60)
    assert "32 bits" in row.note


def test_one_wrong_bit_is_seen() -> None:
    (piece,) = gemm(size_from_flags("gemm", ["--m", "9", "--n", "8", "--k", "20"]), Where("int8", "cpu"))
    out = piece.work()
    assert isinstance(out, torch.Tensor)
    assert out.dtype == torch.int32
    assert piece.error() == 0.0
    right = torch.ops.aten._int_mm.out

    def off_by_one(*args: object, **kwargs: object) -> object:
        found = right(*args, **kwargs)
        found[3, 4] += 1
        return found

    broken = replace(piece, error=piece.error)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.aten._int_mm, "out", off_by_one)
        assert broken.error() > 0.0


def test_all_numbers_of_a_byte_are_drawn_and_the_same_again() -> None:
    drawn = Where("int8", "cpu").random(100, 100)
    assert drawn.dtype == torch.int8
    assert (int(drawn.min()), int(drawn.max())) == (-128, 127)
    assert torch.equal(drawn, Where("int8", "cpu").random(100, 100))


def test_a_layer_runs_forward_alone() -> None:
    rows = run_size(
        size_from_flags("linear", ["--tokens", "9", "--inputs", "5", "--outputs", "6"]), INT8, device_of("cpu"), None
    )
    assert [(row.direction, row.correct) for row in rows] == [("forward", True)]


@pytest.mark.parametrize(
    ("op", "flags"),
    [
        ("conv", "--n 3 --c 4 --h 9 --w 8 --k 6 --filter-h 3 --filter-w 2"),
        ("rnn", "--hidden 8 --batch 3 --timesteps 4"), ("norm", "--rows 12 --dim 16"),
        ("optimizer", "--n-params 60"), ("elementwise", "--elements 512"),
    ],
)  # fmt: skip
def test_what_has_no_int8_is_skipped_with_the_reason(op: str, flags: str) -> None:
    (row,) = run_size(size_from_flags(op, flags.split()), INT8, device_of("cpu"), None)
    assert row.skipped == "int8 is run for gemm and linear only: torch multiplies matrices of it"


def test_a_batch_of_products_is_skipped_with_the_reason() -> None:
    size = one_size("gemm", {"m": 4, "n": 4, "k": 4, "a_t": 0, "b_t": 0, "batch_count": 3})
    (row,) = run_size(size, INT8, device_of("cpu"), None)
    assert row.skipped == "torch has no batched product of int8"
