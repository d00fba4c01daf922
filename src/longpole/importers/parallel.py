"""Traces of many ranks, decoded by processes at once; their columns come back in shared memory, not through a pipe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from longpole.errors import LongpoleError
from longpole.importers.shipping import read_trace
from longpole.importers.workers import WORKER, Task, WorkerLostError, ask, worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from mmap import mmap
    from subprocess import Popen

    from longpole.trace import Trace

Found = TypeVar("Found")


def read_all(paths: Sequence[Path], workers: int) -> list[Trace]:
    """Traces in the order of `paths`. Raises LongpoleError of the first file that is no trace."""
    return ask_about_all([Task(str(path)) for path in paths], workers, WORKER, read_trace)


def ask_about_all(tasks: Sequence[Task], workers: int, module: str, take: Callable[[mmap], Found]) -> list[Found]:
    """What `take` makes of the blocks with which processes that run `module` answered, in the order of the tasks.

    Raises LongpoleError of the first file that is no trace.
    """
    waiting: SimpleQueue[int] = SimpleQueue()
    for index in sorted(range(len(tasks)), key=lambda i: -_size(tasks[i].path)):  # largest first: no long last one
        waiting.put(index)
    found: dict[int, Found] = {}

    def feed() -> None:
        """Keeps one process busy until no file is waiting."""
        with worker(module) as process:
            try:
                while True:
                    index = waiting.get_nowait()
                    found[index] = take(_block(process, tasks[index]))
            except Empty:
                pass

    with ThreadPoolExecutor(workers) as threads:
        jobs = [threads.submit(feed) for _ in range(workers)]
    for job in jobs:
        job.result()
    return [found[index] for index in range(len(tasks))]


def _block(process: Popen[bytes], task: Task) -> mmap:
    try:
        reply, block = ask(process, task)
    except WorkerLostError as error:
        raise LongpoleError(
            f"the process reading {task.path} ended early, perhaps out of memory; open it by itself"
        ) from error
    if block is None:
        raise LongpoleError(reply.error)
    return block


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
