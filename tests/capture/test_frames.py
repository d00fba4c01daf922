"""Places in the user's source have names that can be read and found again."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from longpole.capture import frames

if TYPE_CHECKING:
    from pathlib import Path


def made(source: str, filename: str, function: str = "<module>") -> object:
    code = compile(source, filename, "exec")
    return code if function == "<module>" else next(c for c in code.co_consts if getattr(c, "co_name", "") == function)


def test_a_place_is_file_line_and_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = made("def fetch(): pass", str(tmp_path / "sub" / "train.py"), "fetch")
    assert frames.describe(code, 41) == f"{os.path.join('sub', 'train.py')}:41 in fetch"  # type: ignore[arg-type]


def test_a_module_has_no_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert frames.describe(made("pass", str(tmp_path / "train.py")), 7) == "train.py:7"  # type: ignore[arg-type]


def test_a_file_elsewhere_is_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    shown = frames.describe(made("pass", str(tmp_path / "other" / "train.py")), 7)  # type: ignore[arg-type]
    assert shown == "train.py:7"


def test_whose_a_file_is() -> None:
    assert frames.is_users(__file__)
    assert not frames.is_users(json.__file__)
    assert not frames.is_users(pytest.__file__)
    assert not frames.is_users("<string>")
    assert not frames.is_users("<frozen importlib._bootstrap>")
    assert frames.is_users("<ipython-input-3-abc>")


def test_the_users_own_line_is_named_below_a_library(tmp_path: Path) -> None:
    class Looks:
        def __init__(self) -> None:
            self.place: tuple[object, int] = (None, 0)

        def __call__(self, text: str) -> int:
            self.place = frames.user_place(sys._getframe().f_back or sys._getframe())
            return int(text)

    look = Looks()
    json.loads("[1]", parse_int=look)
    code, _ = look.place
    assert getattr(code, "co_name", "") == "test_the_users_own_line_is_named_below_a_library"


def test_a_comprehension_is_named_by_the_function_round_it() -> None:
    def fetch() -> list[tuple[object, int]]:
        return [frames.user_place(sys._getframe()) for _ in range(1)]

    [(code, _)] = fetch()
    assert getattr(code, "co_name", "") == "fetch"


def test_our_own_frames_are_nobodys() -> None:
    scope: dict[str, object] = {"__name__": "longpole.capture.hooks", "sys": sys}
    exec("frame = sys._getframe()", scope)
    assert frames.is_ours(scope["frame"])  # type: ignore[arg-type]
    assert not frames.is_ours(sys._getframe())
