"""The process that `workers` starts: reads the files and stretches it is asked for until its input ends."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from longpole.errors import LongpoleError
from longpole.importers import open_trace
from longpole.importers.json_events import UnprovenError
from longpole.importers.kept_memory import keep_freed_memory
from longpole.importers.shipping import write_part, write_trace
from longpole.importers.stretches import read_stretch
from longpole.importers.workers import Reply, Task


def work() -> None:
    """Answers each task of standard input with a line on standard output."""
    keep_freed_memory()
    for line in sys.stdin.buffer:
        reply = _answer(msgspec.json.decode(line, type=Task))
        sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
        sys.stdout.buffer.flush()


def _answer(task: Task) -> Reply:
    path = Path(task.path)
    try:
        with Path(task.place).open("r+b") as block:
            if task.stretch is not None:
                write_part(read_stretch(path, *task.stretch), block)
            else:
                write_trace(open_trace(path, workers=1), block)
    except LongpoleError as error:
        return Reply(error=str(error))
    except (UnprovenError, OverflowError):
        return Reply(error="this stretch cannot be read by itself")
    return Reply()


if __name__ == "__main__":
    work()
