"""Holds for every test: longpole leaves no trace in the process. See leftovers.py for what is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def leaves_no_trace() -> Iterator[None]:
    before = leftovers.take()
    yield
    left = leftovers.differences(before)
    assert not left, "left behind by this test: " + "; ".join(left)
