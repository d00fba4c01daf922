"""Results beside others: one size by flags beside published ones, a run beside an earlier one where that is fair."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from longpole.bench.earlier import earlier
from longpole.bench.published import published
from longpole.bench.results import Results, Row, save_results
from longpole.bench.tables import beside_lines, lines
from longpole.cli.ops import command
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from pathlib import Path

HERE = {"processor": "A", "threads": "1", "measured": "then"}


def row(**values: Any) -> Row:
    known: dict[str, Any] = {"suite": "one", "op": "gemm", "index": 0, "label": "l", "direction": "forward"}
    return Row(**{**known, "dtype": "fp32", "median_ms": 2.0, "low_ms": 1.9, "high_ms": 2.1, **values})


def test_a_size_by_flags_is_found_in_the_sheets_of_every_suite() -> None:
    """V100 ran 1760 x 128 x 1760 for training; T4 ran 5124 x 700 x 2048 for training and for inference, in int8."""
    size = {"m": "1760", "n": "128", "k": "1760", "a_t": "0", "b_t": "0"}
    found = published(row(params=size, flops=2.0 * 1760 * 128 * 1760), "NV_V100")
    assert {each.sheet for each in found} == {"Results FP32", "Results - FP16 ip, Mixed math"}
    size = {"m": "5124", "n": "700", "k": "2048", "a_t": "0", "b_t": "0"}
    found = published(row(params=size, flops=2.0 * 5124 * 700 * 2048), "NV_T4")
    served = next(each for each in found if each.sheet == "Results - Mixed Precision")
    assert any("int8" in note for note in served.footnotes)


def test_the_command_shows_one_size_beside_published_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("LONGPOLE_CACHE", str(tmp_path))
    flags = ["gemm", "--m", "512", "--n", "16", "--k", "512", "--each", "0.001"]
    said = CliRunner().invoke(command, [*flags, "--against", "V100", "--against", "iPhone_7"]).stderr
    assert "NV_V100, Results FP32" in said
    assert "iPhone_7 has no result for 1 of these 1." in said
    assert "longpole machine measures them once" in said  # no ceilings are kept here


def test_an_earlier_run_is_shown_and_what_noise_explains_is_said(tmp_path: Path) -> None:
    alike, faster = (
        row(label="alike", low_ms=1.8, high_ms=1.95),
        row(label="faster", median_ms=1.0, low_ms=1.0, high_ms=1.1),
    )
    save_results(
        Results(HERE, [alike, faster, row(label="cold", cache="cold"), row(label="none", median_ms=None)]),
        tmp_path / "r.json",
    )
    find = earlier(tmp_path / "r.json", Results({**HERE, "measured": "now"}))
    assert find(row(label="alike"))[0].footnotes
    assert find(row(label="faster"))[0].footnotes == ()
    assert find(row(label="cold")) == find(row(label="none")) == []
    text = "\n".join(beside_lines([(row(label="faster"), find(row(label="faster")))]))
    assert f"{tmp_path / 'r.json'} (measured then): 2 times as fast as here, one result" in text


def test_an_unfair_comparison_is_refused_with_what_differs(tmp_path: Path) -> None:
    save_results(Results({**HERE, "processor": "B"}, [row()]), tmp_path / "r.json")
    with pytest.raises(LongpoleError, match=r"cannot be compared fairly.*processor: B and A"):
        earlier(tmp_path / "r.json", Results(HERE))
    with pytest.raises(LongpoleError, match="there are no results"):
        earlier(tmp_path / "none.json", Results(HERE))


def test_a_file_written_anew_is_compared_with_what_it_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("LONGPOLE_CACHE", str(tmp_path))
    path = str(tmp_path / "r.json")
    words = ["gemm", "--m", "30", "--n", "30", "--k", "30", "--each", "0.001", "--results", path]
    assert CliRunner().invoke(command, words).exit_code == 0
    document = json.loads((tmp_path / "r.json").read_text())
    document["rows"][0]["median_ms"] = 12345.0
    (tmp_path / "r.json").write_text(json.dumps(document))
    said = CliRunner().invoke(command, [*words, "--again", "--against", path]).stderr
    assert "12345 ms" in said


def test_names_are_whole_where_there_is_no_terminal_and_cut_where_it_is_narrow() -> None:
    long = row(label="x" * 90)
    assert "x" * 90 in list(lines([long]))[1]
    narrow = list(lines([long], 120))[1]
    assert narrow.startswith("  gemm " + "x" * 43 + "... ")
    assert len(list(lines([long], 160))[1].rstrip()) <= 160
