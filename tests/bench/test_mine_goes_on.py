"""`longpole ops --suite mine=STUDY.json` goes on where it stopped, and knows one network from another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

from click.testing import CliRunner, Result

from longpole.bench.mine import StudyOp, study_key
from longpole.bench.results import load_results
from longpole.cli.ops import command
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from pathlib import Path

OPS = [("aten::relu", "[[3]]", 4.0), ("aten::exp", "[[5]]", 2.0), ("aten::mm", "[[4,3],[3,5]]", 1.0)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGPOLE_CACHE", str(tmp_path / "cache"))


def study(path: Path, ops: list[tuple[str, str, float]]) -> str:
    listed = [{"op": op, "shapes": shapes, "ms": ms, "calls": 2} for op, shapes, ms in ops]
    path.write_text(json.dumps({"schema": "longpole.study", "version": 1, "ops": listed}))
    return f"mine={path}"


def ops(suite: str, *words: str) -> tuple[list[dict[str, Any]], Result]:
    result = CliRunner().invoke(command, ["--suite", suite, "--each", "0.001", "--json", *words])
    return json.loads(result.stdout)["rows"] if result.exit_code == 0 else [], result


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    suite = study(tmp_path / "s.json", OPS)
    _, first = ops(suite, "--op", "exp", "--results", str(tmp_path / "r.json"))
    assert "1 operation;" in first.stderr
    exp = load_results(tmp_path / "r.json")
    rows, second = ops(suite, "--results", str(tmp_path / "r.json"))
    assert "2 operations, 1 done before" in second.stderr
    assert [row["op"] for row in rows] == ["aten::relu", "aten::exp", "aten::mm"]
    assert exp is not None
    assert rows[1]["median_ms"] == exp.rows[0].median_ms
    again, third = ops(suite, "--results", str(tmp_path / "r.json"), "--budget", "0")
    assert "0 operations, 3 done before" in third.stderr
    assert [row["median_ms"] for row in again] == [row["median_ms"] for row in rows]
    _, anew = ops(suite, "--results", str(tmp_path / "r.json"), "--again")
    assert "3 operations;" in anew.stderr


def test_what_shapes_do_not_tell_is_not_tried_again(tmp_path: Path) -> None:
    suite = study(tmp_path / "s.json", [*OPS, ("aten::item", "[[]]", 0.1)])
    first, said = ops(suite)
    assert "4 operations;" in said.stderr
    assert "needs more than shapes" in first[3]["skipped"]
    again, said = ops(suite, "--budget", "0")
    assert "0 operations, 4 done before" in said.stderr
    assert "to go" not in said.stderr
    assert again[3]["skipped"] == first[3]["skipped"]


def test_results_are_kept_without_a_file_too(tmp_path: Path) -> None:
    suite = study(tmp_path / "s.json", OPS)
    ops(suite)
    _, again = ops(suite)
    assert "0 operations, 3 done before" in again.stderr


def test_another_study_of_the_network_brings_its_own_times_in_place(tmp_path: Path) -> None:
    """Alone 2 calls take what they took; in place they take 1 / 2, 8 / 2, 2 / 2 ms, and the order is another."""
    store = ("--results", str(tmp_path / "r.json"))
    first, _ = ops(study(tmp_path / "a.json", OPS), *store)
    slower = [(op, shapes, ms) for (op, shapes, _), ms in zip(OPS, (1.0, 8.0, 2.0), strict=True)]
    second, said = ops(study(tmp_path / "b.json", slower), *store, "--budget", "0")
    assert "0 operations, 3 done before" in said.stderr
    assert [(row["op"], row["index"], row["in_place_ms"]) for row in second] == [
        ("aten::exp", 0, 4.0), ("aten::mm", 1, 1.0), ("aten::relu", 2, 0.5),
    ]  # fmt: skip
    alone = {row["op"]: row["median_ms"] for row in first}
    assert {row["op"]: row["median_ms"] for row in second} == alone


def test_another_network_is_measured_beside_the_first_in_one_file(tmp_path: Path) -> None:
    store = ("--results", str(tmp_path / "r.json"))
    ops(study(tmp_path / "a.json", OPS), *store)
    rows, said = ops(study(tmp_path / "b.json", [*OPS, ("aten::tanh", "[[2]]", 1.0)]), *store)
    assert "4 operations;" in said.stderr
    assert len(rows) == 4
    kept = load_results(tmp_path / "r.json")
    assert kept is not None
    assert len(kept.rows) == 3 + 4


def test_a_file_of_another_suite_keeps_its_rows(tmp_path: Path) -> None:
    store = ["--results", str(tmp_path / "r.json")]
    suite = ["--suite", "deepbench-inference-device", "--op", "rnn", "--check"]
    assert CliRunner().invoke(command, [*suite, *store, "--quiet"]).exit_code == 0
    ops(study(tmp_path / "s.json", OPS), *store)
    assert "0 sizes, 3 done before" in CliRunner().invoke(command, [*suite, *store]).stderr
    assert "0 operations, 3 done before" in ops(study(tmp_path / "s.json", OPS), *store)[1].stderr


def test_a_network_is_known_by_its_operations_and_their_shapes_in_any_order() -> None:
    one = [StudyOp("a", "[[1]]", 1.0), StudyOp("b", None, 2.0)]
    assert study_key(one) == study_key([StudyOp("b", None, 3.0), StudyOp("a", "[[1]]", 9.0), StudyOp("a", "[[1]]")])
    assert study_key(one) != study_key([StudyOp("a", "[[2]]", 1.0), StudyOp("b", None, 2.0)])


def test_both_caches_and_a_check(tmp_path: Path) -> None:
    suite = study(tmp_path / "s.json", OPS)
    rows, _ = ops(suite, "--cache", "both")
    assert [(row["op"], row["cache"]) for row in rows[:2]] == [("aten::relu", "hot"), ("aten::relu", "cold")]
    checked, said = ops(suite, "--check", "--results", str(tmp_path / "c.json"))
    assert all(row["correct"] and row["median_ms"] is None for row in checked)
    assert said.stderr.count("agrees with float64") == 3
    _, timed = ops(suite, "--results", str(tmp_path / "c.json"))
    assert "3 operations;" in timed.stderr  # what was only checked is still to be timed


@pytest.mark.parametrize(
    "text", ["{", '{"conditions": {}, "rows": [{"suite": "mine"}]}', '{"conditions": {"processor": "other"}}']
)
def test_a_file_that_cannot_be_gone_on_from_is_one_line_and_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    _, result = ops(study(tmp_path / "s.json", OPS), "--results", str(tmp_path / "r.json"))
    assert isinstance(result.exception, LongpoleError)
    assert "--again" in str(result.exception)
    assert (tmp_path / "r.json").read_text() == text


def test_a_study_without_operations_is_one_line(tmp_path: Path) -> None:
    _, result = ops(study(tmp_path / "s.json", []))
    assert isinstance(result.exception, LongpoleError)
    assert "has no operations" in str(result.exception)
