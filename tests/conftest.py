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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch on one thread, its random numbers begun anew."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
