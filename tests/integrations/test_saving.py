"""A Study from Python prints, shows and saves itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import longpole
from longpole.analysis.study import load_study
from report.sample import gpt_study

if TYPE_CHECKING:
    from pathlib import Path


def test_saves_as_json_and_as_a_page(tmp_path: Path) -> None:
    study = gpt_study()
    assert longpole.Study is type(study)  # fetching the name joins studies with the reports
    study.save(str(tmp_path / "study.json"))
    study.save(tmp_path / "report.html")
    assert load_study((tmp_path / "study.json").read_bytes(), "study.json") == study
    page = (tmp_path / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "default-src 'none'" in page


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(longpole.LongpoleError, match=r"cannot write .*missing"):
        gpt_study().save(tmp_path / "missing" / "study.json")


def test_prints_and_shows_itself() -> None:
    study = gpt_study()
    assert longpole.Study is type(study)
    assert study.headline[:30] in " ".join(str(study).split())
    shown = study._repr_html_()
    assert shown is not None
    assert "<script" not in shown
