"""Traces of many ranks, decoded by processes at once; their columns come back in shared memory, not through a pipe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from longpole.errors import LongpoleError
from longpole.importers.shipping import read_trace
from longpole.importers.workers import Task, WorkerLostError, ask, worker

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path

    from longpole.trace import Trace


def read_all(paths: Sequence[Path], workers: int) -> list[Trace]:
    """Traces in the order of `paths`. Raises LongpoleError of the first file that is no trace."""
    waiting: SimpleQueue[int] = SimpleQueue()
    for index in sorted(range(len(paths)), key=lambda i: -_size(paths[i])):  # largest first: no long last one
        waiting.put(index)
    found: dict[int, Trace] = {}
    with ThreadPoolExecutor(workers) as threads:
        jobs = [threads.submit(_feed, paths, waiting, found) for _ in range(workers)]
    for job in jobs:
        job.result()
    return [found[index] for index in range(len(paths))]


def _feed(paths: Sequence[Path], waiting: SimpleQueue[int], found: dict[int, Trace]) -> None:
    """Keeps one process busy until no file is waiting."""
    with worker() as process:
        try:
            while True:
                index = waiting.get_nowait()
                found[index] = _read(process, paths[index])
        except Empty:
            pass


def _read(process: subprocess.Popen[bytes], path: Path) -> Trace:
    try:
        reply, block = ask(process, Task(str(path)))
    except WorkerLostError as error:
        raise LongpoleError(
            f"the process reading {path} ended early, perhaps out of memory; open it by itself"
        ) from error
    if reply.error:
        raise LongpoleError(reply.error)
    return read_trace(block)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
