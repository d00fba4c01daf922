"""Processes that read for this one: started, asked, and their answers taken out of shared memory."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import msgspec

from longpole.importers.source import GZIP_MAGIC

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

WORKER = "longpole.importers.worker"
LARGE_BYTES = 64 << 20  # of a file: from here on a second process is worth its start, 0.2 s
LARGE_GZIP_BYTES = 4 << 20  # of a gzipped one: JSON of traces becomes a tenth and less
MOST_WORKERS = 8  # for one file: more gain little, since putting the parts together is for one
ONE_FILE_EACH = (".json", ".json.gz", ".pftrace", ".pftrace.gz", ".perfetto-trace")
_ahead: dict[str, list[subprocess.Popen[bytes]]] = {}  # by the module that they run


class Task(msgspec.Struct):
    """What a process is asked: read the trace at `path`, or a stretch of it, and put columns into the file `place`."""

    path: str
    place: str = ""
    stretch: tuple[int, int] | None = None
    step: int | None = None  # of which a study is wanted, where it is of one


class Reply(msgspec.Struct):
    """What it answers: an empty error is success."""

    error: str = ""


class WorkerLostError(Exception):
    """The process ended before it answered."""


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_start() -> bool:
    """Whether this system has what the processes need: files that two of them open at once."""
    return os.name == "posix" and bool(sys.executable)


def start_ahead(files: Sequence[Path], module: str) -> None:
    """Starts the processes that these files need: to be called before numpy is imported.

    One large JSON file is read by this process and others; of several files each is read by a process that runs
    `module`. Their start and ours take 0.3 s each, and so go on at once. Those that nobody takes end with us.
    """
    if not can_start() or cores() < 2:
        return
    if len(files) > 1 and all(file.name.endswith(ONE_FILE_EACH) for file in files):
        _ahead[module] = [_started(module) for _ in range(min(cores(), len(files)))]
    elif len(files) == 1 and _is_large_json(files[0]):
        _ahead[WORKER] = [_started(WORKER) for _ in range(min(cores(), MOST_WORKERS) - 1)]


def _is_large_json(path: Path) -> bool:
    """Whether a file is JSON, or gzip that may be JSON, and large."""
    try:
        if not path.is_file() or path.stat().st_size < min(LARGE_BYTES, LARGE_GZIP_BYTES):
            return False
        with path.open("rb") as file:
            head = file.read(64).lstrip()
        if head.startswith(GZIP_MAGIC):
            return path.stat().st_size >= LARGE_GZIP_BYTES
        return head[:1] in (b"{", b"[") and path.stat().st_size >= LARGE_BYTES
    except OSError:
        return False  # who reads it says why


def _started(module: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(place for place in sys.path if place)}
    command = [sys.executable, "-m", module]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


@contextmanager
def worker(module: str | None = None) -> Generator[subprocess.Popen[bytes]]:
    """A process that answers tasks by running `module` (WORKER where None).

    It is ended on leaving, and killed where that is by an error.
    """
    module = module or WORKER
    ahead = _ahead.get(module)
    with ahead.pop() if ahead else _started(module) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def ask(process: subprocess.Popen[bytes], task: Task) -> tuple[Reply, mmap.mmap | None]:
    """The answer, and the block of columns that came with it. Raises WorkerLostError where none comes."""
    with shared_block() as block:
        task.place = place_of(block)
        reply = _answer(process, task)
        return reply, None if reply.error else mmap.mmap(block.fileno(), 0, access=mmap.ACCESS_COPY)


def _answer(process: subprocess.Popen[bytes], task: Task) -> Reply:
    if process.stdin is None or process.stdout is None:
        raise WorkerLostError
    try:
        process.stdin.write(msgspec.json.encode(task) + b"\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError as error:
        raise WorkerLostError from error
    if not answer:
        raise WorkerLostError
    return msgspec.json.decode(answer, type=Reply)


def shared_block() -> IO[bytes]:
    """A file in memory where the system has such files, else one that goes away when closed."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("longpole-trace"), "w+b")
    return tempfile.NamedTemporaryFile()


def place_of(block: IO[bytes]) -> str:
    """A path by which another process opens the block."""
    return block.name if isinstance(block.name, str) else f"/proc/{os.getpid()}/fd/{block.fileno()}"
