"""Waiting for a module that the script imports: seen once, and nothing is left in the import system."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING

import pytest

from longpole.capture.imports import ImportWatch, is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "longpole_test_waited_for"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / f"{NAME}.py"
    path.write_text("VALUE = 7\nLOADER = __spec__.loader\n")
    importlib.invalidate_caches()
    yield path
    sys.modules.pop(NAME, None)


@pytest.fixture
def seen() -> Iterator[tuple[ImportWatch, list[int]]]:
    times: list[int] = []
    watch = ImportWatch(NAME, lambda: times.append(getattr(sys.modules[NAME], "VALUE", -1)))
    yield watch, times
    watch.stop()


def test_called_once_when_the_module_is_whole(module: Path, seen: tuple[ImportWatch, list[int]]) -> None:
    watch, times = seen
    watch.start()
    assert times == []
    found = importlib.import_module(NAME)
    importlib.import_module(NAME)
    assert times == [7]
    assert watch not in sys.meta_path
    assert type(found.__spec__.loader).__module__.startswith("_frozen_importlib")  # type: ignore[union-attr]
    assert found.__loader__ is found.__spec__.loader is found.LOADER  # type: ignore[union-attr]


def test_a_module_that_is_there_already(module: Path, seen: tuple[ImportWatch, list[int]]) -> None:
    importlib.import_module(NAME)
    seen[0].start()
    assert seen[1] == [7]
    assert seen[0] not in sys.meta_path


def test_asking_for_a_spec_is_no_import(module: Path, seen: tuple[ImportWatch, list[int]]) -> None:
    """transformers asks before it imports."""
    watch, times = seen
    watch.start()
    assert importlib.util.find_spec(NAME) is not None
    assert times == []
    importlib.import_module(NAME)
    assert times == [7]
    assert watch not in sys.meta_path


def test_a_module_that_is_missing(seen: tuple[ImportWatch, list[int]]) -> None:
    seen[0].start()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(NAME)
    assert seen[1] == []


def test_a_module_that_fails_is_waited_for_still(module: Path, seen: tuple[ImportWatch, list[int]]) -> None:
    module.write_text("raise RuntimeError('broken')")
    seen[0].start()
    with pytest.raises(RuntimeError, match="broken"):
        importlib.import_module(NAME)
    assert seen[1] == []
    module.write_text("VALUE = 70000")
    importlib.invalidate_caches()
    importlib.import_module(NAME)
    assert seen[1] == [70000]


def test_installed_or_not(module: Path) -> None:
    assert is_installed(NAME)
    assert NAME not in sys.modules
    assert not is_installed("longpole_test_no_such_module")
    assert not is_installed("..odd")
