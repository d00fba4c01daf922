"""Traces of many ranks, decoded by processes at once; their columns come back in shared memory, not through a pipe."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING

import msgspec

from longpole.errors import LongpoleError
from longpole.importers.shipping import read_trace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from longpole.trace import Trace


class Task(msgspec.Struct):
    """What a process is asked: read the trace at `path` and put its columns into the file at `place`."""

    path: str
    place: str


class Reply(msgspec.Struct):
    """What it answers: an empty error is success."""

    error: str = ""


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(place for place in sys.path if place)}
    command = [sys.executable, "-m", "longpole.importers.worker"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    with process:
        try:
            while True:
                index = waiting.get_nowait()
                with _shared_block() as block:
                    found[index] = _ask(process, paths[index], block)
        except Empty:
            pass


def _ask(process: subprocess.Popen[bytes], path: Path, block: IO[bytes]) -> Trace:
    if process.stdin is None or process.stdout is None:
        raise LongpoleError(f"no process to read {path} with; open fewer files at once")
    try:
        process.stdin.write(msgspec.json.encode(Task(str(path), _place(block))) + b"\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        answer = b""
    if not answer:
        raise LongpoleError(f"the process reading {path} ended early, perhaps out of memory; open it by itself")
    reply = msgspec.json.decode(answer, type=Reply)
    if reply.error:
        raise LongpoleError(reply.error)
    return read_trace(mmap.mmap(block.fileno(), 0, access=mmap.ACCESS_COPY))


def _shared_block() -> IO[bytes]:
    """A file in memory where the system has such files, else one that goes away when closed."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("longpole-trace"), "w+b")
    return tempfile.NamedTemporaryFile()


def _place(block: IO[bytes]) -> str:
    """A path by which another process opens the block."""
    return block.name if isinstance(block.name, str) else f"/proc/{os.getpid()}/fd/{block.fileno()}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
