"""Work done by a copy of this process, and here where there can be none."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

from longpole.analysis import beside as module
from longpole.analysis.beside import beside, can_copy
from longpole.trace import Kind, RunInfo, Trace, make_table


def trace_of(rows: int) -> Trace:
    start = np.arange(rows, dtype=np.int64)
    columns = {"start_ns": start, "duration_ns": start * 0 + 1, "name": start * 0, "lane": start * 0}
    return Trace(
        events=make_table({**columns, "kind": start * 0 + int(Kind.OP)}), strings=["op"], lanes=[], info=RunInfo()
    )


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the command line: a small trace is worth it, and nobody else's threads or modules are there."""
    if sys.platform != "linux":
        pytest.skip("copies are made on Linux only")
    monkeypatch.setattr(module, "WORTH_ROWS", 1)
    monkeypatch.setattr(module, "can_copy", lambda: True)


@pytest.mark.usefixtures("copies")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_work_is_done_by_another_process_and_its_result_comes_back() -> None:
    trace = trace_of(5)
    result = beside(trace, lambda: (os.getpid(), int(trace.events.start_ns.sum())))
    process, total = result()
    assert process != os.getpid()
    assert total == 0 + 1 + 2 + 3 + 4
    with pytest.raises(ChildProcessError):
        os.waitpid(process, 0)  # waited for already: nothing is left behind


@pytest.mark.usefixtures("copies")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_work_that_fails_in_the_copy_is_done_here_with_its_error() -> None:
    here = os.getpid()

    def work() -> int:
        if os.getpid() != here:
            raise MemoryError
        return 7

    assert beside(trace_of(5), work)() == 7

    def fails() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        beside(trace_of(5), fails)()


def test_a_small_trace_is_studied_here() -> None:
    assert beside(trace_of(5), os.getpid)() == os.getpid()


def test_a_process_with_threads_is_not_copied() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert not can_copy()
    finally:
        stop.set()
        thread.join()
