"""The operations of one's own network: what shapes tell, every call alone, and both times of a step."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402

from longpole.bench.mine import How, StudyOp, run_mine, together  # noqa: E402
from longpole.bench.mine_calls import CALLS, hints_of, prepare, shapes_of  # noqa: E402
from longpole.bench.results import Row  # noqa: E402
from longpole.bench.tables import mine_lines  # noqa: E402
from longpole.bench.timing import Protocol  # noqa: E402
from longpole.cli.ops import command  # noqa: E402
from longpole.errors import LongpoleError  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

QUICK = How(Protocol(budget_s=0.001))
HEADS = "[[2,2,5,8],[2,2,5,8],[2,2,5,8],[2,2,5,8]]"
# What a study records of each, where it is not [[4, 6], [4, 6], [4, 6]].
SHAPES = {
    "aten::mm": "[[4,3],[3,5]]",
    "aten::addmm": "[[5],[4,3],[3,5]]",
    "aten::bmm": "[[2,4,3],[2,3,5]]",
    "aten::baddbmm": "[[2,4,5],[2,4,3],[2,3,5]]",
    "aten::_scaled_dot_product_flash_attention_for_cpu": HEADS,
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": HEADS,
    "aten::convolution": "[[2,3,8,8],[6,3,3,3],[],[]]",
    "aten::_convolution": "[[2,3,8,8],[6,3,3,3],[],[]]",
    "aten::mkldnn_convolution": "[[2,3,8,8],[6,3,3,3],[],[]]",
    "aten::convolution_backward": "[[2,6,4,4],[2,3,8,8],[6,3,3,3],[],[]]",
    "aten::max_pool2d_with_indices": "[[2,3,8,8],[],[]]",
    "aten::max_pool2d_with_indices_backward": "[[2,3,4,4],[2,3,8,8],[],[],[],[],[],[2,3,4,4]]",
    "aten::native_batch_norm": "[[4,6],[6],[6],[6],[6],[],[],[]]",
    "aten::native_batch_norm_backward": "[[4,6],[4,6],[6],[6],[6],[6],[6],[],[],[]]",
    "aten::embedding": "[[9,6],[4,2],[],[],[]]",
    "aten::embedding_dense_backward": "[[4,2,6],[4,2],[],[],[]]",
    "aten::nll_loss_forward": "[[4,6],[4],[],[],[]]",
    "aten::nll_loss_backward": "[[],[4,6],[4],[],[],[],[]]",
}


def rows_of(ops: list[StudyOp], how: How = QUICK) -> list[Row]:
    return [row for rows in run_mine(ops, together(ops), how) for row in rows]


def shapes(name: str) -> str:
    return SHAPES.get(name, "[[4,6],[4,6],[4,6],[]]")


@pytest.mark.parametrize("name", CALLS)
def test_every_operation_runs_alone_to_a_checked_result(name: str) -> None:
    rest = [StudyOp(other, shapes(other), 0.5, 1.0) for other in SHAPES]
    rows = rows_of([StudyOp(name, shapes(name), 3.0, 2.0), *rest])
    row = next(row for row in rows if row.op == name)
    assert row.skipped is None, row.skipped
    assert row.correct is (None if CALLS[name].random else True), row.error
    assert row.median_ms is not None
    assert row.median_ms > 0
    assert row.in_place_ms == pytest.approx(1.5 if name not in SHAPES else 3.5 / 3)


def test_a_convolution_gets_its_stride_from_its_backward() -> None:
    ops = [("aten::convolution_backward", SHAPES["aten::convolution_backward"])]
    inputs, make, _ = prepare("aten::convolution", SHAPES["aten::convolution"], hints_of(ops))
    assert make(*inputs)().shape == (2, 6, 4, 4)
    with pytest.raises(ValueError, match="needs more than shapes"):
        prepare("aten::convolution", SHAPES["aten::convolution"], {})


def test_indices_stay_inside_what_they_index() -> None:
    hints = hints_of([("aten::embedding", SHAPES["aten::embedding"])])
    for name, position, high in (
        ("aten::embedding", 1, 9), ("aten::embedding_dense_backward", 1, 9),
        ("aten::nll_loss_forward", 1, 6), ("aten::nll_loss_backward", 2, 6),
    ):  # fmt: skip
        inputs, _, _ = prepare(name, SHAPES[name], hints)
        assert inputs[position].dtype == torch.int64
        assert 0 <= int(inputs[position].min()) <= int(inputs[position].max()) < high


@pytest.mark.parametrize("text", ["[[true]]", "[[-1]]", "[[1.5]]", '[["a"]]', "[3]", "[[99999999999]]", "[null]"])
def test_what_is_no_shape_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is no shape"):
        shapes_of(text)
    row = rows_of([StudyOp("aten::mm", text, 1.0, 1.0)])[0]
    assert "is no shape" in (row.skipped or "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("aten::mm", "[[99999999,99999999],[3,5]]"), ("aten::mm", "[[4,3],[9,5]]"), ("aten::mm", "[[4,3]]"),
        ("aten::mm", "nonsense"), ("aten::mm", None), ("aten::mm", "{}"), ("x", "[]"),
        ("aten::convolution_backward", "[[],[],[]]"), ("aten::convolution_backward", "[[1,0,2],[1,0,2],[0,0,1]]"),
        ("aten::max_pool2d_with_indices_backward", "[[2,3,0,0],[2,3,8,8]]"),
        ("aten::nll_loss_forward", "[[4],[4]]"), ("aten::embedding", "[[],[4]]"), ("aten::native_layer_norm", "[[]]"),
    ],
)  # fmt: skip
def test_an_operation_that_cannot_run_is_skipped_with_the_reason(name: str, text: str | None) -> None:
    row = rows_of([StudyOp(name, text, 1.0, 1.0)])[0]
    assert row.skipped
    assert row.median_ms is None


def test_no_operation_is_begun_after_the_budget() -> None:
    assert rows_of([StudyOp("aten::relu", "[[3]]", 1.0, 1.0)], replace(QUICK, budget_s=0.0)) == []


def test_the_step_is_the_sum_of_calls_alone_and_in_place() -> None:
    def row(op: str, **values: Any) -> Row:
        return Row(suite="mine", op=op, index=0, label="", direction="", dtype="fp32", **values)

    rows = [
        row("a", median_ms=2.0, low_ms=1.9, high_ms=2.1, in_place_ms=3.0, calls=4.0, settled=True),
        row("b", median_ms=1.0, low_ms=1.0, high_ms=1.0, in_place_ms=0.0, calls=1.0, settled=False),
        row("c", skipped="c needs more", in_place_ms=4.0, calls=1.0),
        row("d", skipped="d needs more", in_place_ms=0.0, calls=1.0),
    ]
    text = list(mine_lines(rows))
    assert text[1].split()[:6] == ["a", "hot", "4", "3", "2", "1.9"]
    assert "1.50" in text[1]
    assert "1~" in text[2]
    assert text[3] == "  not run alone: c, d: needs more"
    # 4 x 3 + 0 of 4 x 3 + 0 + 4 + 0 ms in place; 4 x 2 + 1 ms alone
    assert text[4] == "  In a step, 2 of 4 operations, 75% of the time of all: 12 ms in place, 9 ms alone."


def study(folder: Path) -> str:
    ops = [{"op": name, "shapes": "[[3]]", "ms": 1.0, "calls": 1} for name in ("aten::relu", "aten::exp")]
    path = folder / "study.json"
    path.write_text(json.dumps({"schema": "longpole.study", "version": 1, "ops": ops}))
    return f"mine={path}"


def test_operations_of_a_study_are_listed_and_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGPOLE_CACHE", str(tmp_path))
    listed = CliRunner().invoke(command, ["--suite", study(tmp_path), "--list", "--json"])
    assert json.loads(listed.stdout)["counts"] == {"aten::relu": 1, "aten::exp": 1}
    chosen = CliRunner().invoke(command, ["--suite", study(tmp_path), "--op", "exp", "--each", "0.001", "--json"])
    assert [row["op"] for row in json.loads(chosen.stdout)["rows"]] == ["aten::exp"]
    none = CliRunner().invoke(command, ["--suite", study(tmp_path), "--budget", "0", "--json"])
    assert [row["op"] for row in json.loads(none.stdout)["rows"]] == ["aten::exp"]  # kept from the run before
    assert "1 operation to go" in none.stderr


@pytest.mark.parametrize("wrong", [["--op", "tan"], ["--dtype", "bf16"], ["--device", "cuda"]])
def test_what_a_study_cannot_answer_is_one_line(wrong: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--suite", study(tmp_path), *wrong])
    assert isinstance(result.exception, LongpoleError)
