"""The terminal report: golden text for made studies, and it never fails whatever a study holds."""

from __future__ import annotations

import io
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from longpole.analysis.study import OpClassTime, PhaseTime, Spread, Step, Study
from longpole.report import layertree, summary
from longpole.report.figures import byte_size, count, number
from longpole.report.lines import bar, fit, plain, wrap
from longpole.report.terminal import render, screen, text_report
from report.sample import gpt_study, gpu_study, hostile_study, wide_study

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parent / "golden"


def rendered(study: Study, width: int = 80, encoding: str = "utf-8", **options: object) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    render(study, Console(file=stream, width=width, no_color=True), **options)
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("name", "made", "options"),
    [
        ("gpt-80", gpt_study, {"width": 80}),
        ("gpt-110-layers", gpt_study, {"width": 110, "layers": True}),
        ("gpt-80-ascii", gpt_study, {"width": 80, "encoding": "ascii"}),
        ("ranks-80", gpu_study, {"width": 80}),
        ("empty-80", Study, {"width": 80}),
    ],
)
def test_golden(name, made, options):
    """LONGPOLE_GOLDEN=1 writes the files anew; read the difference before committing it."""
    found = rendered(made(), **options)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("LONGPOLE_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 96, 120])
@pytest.mark.parametrize("made", [gpt_study, gpu_study, hostile_study])
def test_no_line_is_wider_than_the_terminal(made, width):
    lines = screen(made(), width, layers=True, ranks=True)
    assert max(cell_len(plain(line)) for line in lines) <= width


def test_ascii_stream_gets_ascii_bars():
    text = rendered(gpt_study(), encoding="ascii")
    assert "#" in text
    assert "█" not in text


def test_hostile_names_reach_no_terminal_control():
    text = rendered(hostile_study(), layers=True)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold red]markup[/bold red]" in text  # shown as it is, not as a style


def test_unknown_is_never_zero():
    study = Study(step=Step(Spread()), phases=[PhaseTime("forward", float("nan"), float("nan"))])
    text = rendered(study)
    assert "time not known" in text
    assert "probe not known" in text
    assert "0.0 %" not in text


def test_phase_bars_are_as_long_as_their_shares():
    assert bar(0.5, 10, blocks=False) == "#####     "
    assert bar(0.25, 10, blocks=True) == "██▌       "
    assert bar(1e-9, 4, blocks=True) == "▏   "  # something is never drawn as nothing
    assert bar(7.0, 4, blocks=True) == "████"
    assert bar(float("nan"), 4, blocks=True) == "    "


def test_sample_sums():
    """The made study keeps the ledger that the report shows: parts sum to the step."""
    study = gpt_study()
    assert sum(p.ms for p in study.phases) == pytest.approx(study.step.wall_ms.mean)
    assert sum(c.ms for c in study.op_classes) == pytest.approx(study.step.wall_ms.mean)
    split = summary.backward_split(study)
    backward = next(p.ms for p in study.phases if p.phase == "backward")
    assert split is not None
    assert split.other_ms == pytest.approx(14.0)
    assert split.input_grad_ms + split.weight_grad_ms + 14.0 == pytest.approx(backward)


def test_uneven_steps_are_said():
    study = gpt_study()
    study.step.wall_ms.median = study.step.wall_ms.mean * 0.8
    assert "A few slow steps pull the mean" in rendered(study)
    assert "A few" not in rendered(gpt_study())


def test_steps_that_an_evaluation_makes_uneven_are_not_called_slow() -> None:
    study = gpt_study()
    mean = study.step.wall_ms.mean
    study.step.wall_ms.median = mean * 0.8
    study.phases.append(PhaseTime("evaluation", mean * 0.2, 0.2, samples=[0.0, 0.0, 0.0, 0.0, mean]))
    said = rendered(study)
    assert "Evaluation in some of the steps pulls the mean to" in said
    assert "A few" not in said


def test_tree_folds_and_keeps_every_layer_once():
    study = gpt_study()
    leaves = [x for x in study.layers if not x.container]
    rows = layertree.rows(study.layers, top=3)
    open_leaves = [row for row in rows if row.time is not None and not row.time.container]
    assert len(open_leaves) + sum(row.folded for row in rows) == len(leaves)
    smaller = next(row for row in rows if row.label.startswith("+ 3 smaller"))
    assert smaller.total_ms is not None


def test_tree_of_a_path_without_its_container():
    study = wide_study(60)
    rows = layertree.rows(study.layers, top=100)
    assert [row.label for row in rows][:2] == ["net.0.part0", "net.0.part1"]
    assert {row.depth for row in rows} == {0}


def test_many_ranks_show_the_extremes():
    ranks = gpu_study(ranks=64).ranks
    chosen = [rank.rank for rank in summary.chosen_ranks(ranks, 8)]
    assert len(chosen) == 8
    assert 3 in chosen  # the starved one
    assert 0 in chosen  # the busiest one
    assert "8 of 64 ranks" in rendered(gpu_study(ranks=64))
    assert "of 64 ranks:" not in rendered(gpu_study(ranks=64), ranks=True)


def test_gaps_are_means_over_ranks_and_counts_sums():
    rows = {row[0]: row for row in summary.gaps_by_cause(gpu_study().ranks)}
    assert rows["data"][1] == pytest.approx(240.0 / 8)
    assert rows["data"][3] == 5
    assert rows["launch"][1] == pytest.approx(42.0 + 3.5)


def test_text_report_is_whole():
    text = text_report(gpt_study())
    assert "lm_head" in text
    assert "mylib::rotary" in text


@given(st.text(max_size=300), st.integers(9, 120))
def test_wrap_keeps_words_and_width(text, width):
    lines = wrap(text, width)
    assert all(cell_len(line) <= max(width, 8) for line in lines)


@given(st.text(alphabet=st.characters(exclude_categories=["C", "Z", "M"]), max_size=60), st.integers(0, 50))
def test_fit_is_exact(text, width):
    assert cell_len(fit(text, width)) == width


FIGURES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True), st.just(-1.0), st.just(0.0), st.just(1e300), st.just(1e-300)
)
TEXTS = st.one_of(
    st.text(max_size=30), st.sampled_from(["a.b.c", "a.b", "a", "", "\x1b[2J", "[/]", "\ud800", "x" * 500])
)


def _filled(value: object, figures: Iterator[float], texts: Iterator[str]) -> object:
    """The same shape with every figure and text replaced by the next drawn one."""
    if isinstance(value, dict):
        return {k: _filled(v, figures, texts) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, figures, texts) for v in value]
    if isinstance(value, float):
        return next(figures)
    return next(texts) if isinstance(value, str) else value


@st.composite
def studies(draw: st.DrawFn) -> Study:
    """Studies of the right types and no sense at all."""
    base = draw(st.sampled_from([gpt_study, gpu_study]))()
    base.layers, base.ops, base.ranks = base.layers[:7], base.ops[:5], base.ranks[:3]
    base.ops[-1:] = [base.ops[-1]] if base.ops else []
    figures = itertools.cycle(draw(st.lists(FIGURES, min_size=1, max_size=23)))
    texts = itertools.cycle(draw(st.lists(TEXTS, min_size=1, max_size=11)))
    return msgspec.convert(_filled(msgspec.to_builtins(base), figures, texts), Study)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(studies(), st.integers(0, 200), st.sampled_from(["utf-8", "ascii", "latin-1"]))
def test_any_study_renders(study, width, encoding):
    text = rendered(study, width, encoding, layers=True, ranks=True, top=3)
    assert text.strip()
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (None, None, "–"),
        (float("inf"), 1, "–"),
        (0, None, "0"),
        (0.0, 1, "0.0"),
        (0.04, 1, "<0.1"),  # more than nothing never looks like nothing
        (-1e-9, 1, "0.0"),
        (0.05678, None, "0.057"),
        (5.678, None, "5.68"),
        (56.78, None, "56.8"),
        (567.8, None, "568"),
        (1234567.0, None, "1 234 567"),
    ],
)
def test_figures(value, decimals, text):
    assert number(value, decimals) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (43_200_000, "41.2 MiB"), (None, "–")]
)
def test_bytes(value, text):
    assert byte_size(value) == text
    assert count(10_800_000) == "10.8 M"


def test_shares_of_the_flops_are_told_only_where_products_are_known() -> None:
    classes = [
        OpClassTime(op_class="matmul", ms=6.0, share=0.6, flops=None),
        OpClassTime(op_class="data_movement", ms=4.0, share=0.4, flops=100.0),
    ]
    study = Study(op_classes=classes)
    assert summary.whole_flops(study) == 0
    classes[0].flops = 900.0
    assert summary.whole_flops(study) == 1000
    classes.append(OpClassTime(op_class="attention", ms=0.5, share=0.05, flops=None))
    assert summary.whole_flops(study) == 1000
