"""`longpole machine`: peaks for tools, and what is wrong is told before anything is measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from longpole.cli import machine
from longpole.errors import LongpoleError
from longpole.machine import PEAKS

if TYPE_CHECKING:
    from pathlib import Path


def test_every_peak_is_in_the_json_with_its_source() -> None:
    result = CliRunner().invoke(machine.command, ["--peaks", "--json", "-"])
    found = json.loads(result.stdout)
    assert (found["schema"], found["unit"]) == ("longpole.peaks", "TFLOP/s dense")
    assert [each["name"] for each in found["peaks"]] == [peak.name for peak in PEAKS]
    assert all(each["source"].startswith("https://") for each in found["peaks"])


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_measure", lambda *_: pytest.fail("it was measured"))
    result = CliRunner().invoke(machine.command, ["--again", option, str(tmp_path / "none" / "x")])
    assert isinstance(result.exception, LongpoleError)
    assert "there is no folder" in str(result.exception)


def test_ctrl_c_keeps_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    class EndedError(Exception):
        pass

    def leave(said: str) -> None:
        raise EndedError(said)

    monkeypatch.setattr(machine, "_measure", interrupted)
    monkeypatch.setattr(machine, "leave_interrupted", leave)
    result = CliRunner().invoke(machine.command, ["--again"])
    assert isinstance(result.exception, EndedError)
    assert "nothing of it is kept" in str(result.exception)


def test_more_threads_than_a_process_can_have_are_refused() -> None:
    assert CliRunner().invoke(machine.command, ["--threads", "100000"]).exit_code == 2
