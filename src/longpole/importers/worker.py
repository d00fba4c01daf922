"""The process that `parallel` starts: reads the files it is asked for until its input ends."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from longpole.errors import LongpoleError
from longpole.importers import open_trace
from longpole.importers.parallel import Reply, Task
from longpole.importers.shipping import write_trace


def work() -> None:
    """Answers each task of standard input with a line on standard output."""
    for line in sys.stdin.buffer:
        task = msgspec.json.decode(line, type=Task)
        reply = Reply()
        try:
            with Path(task.place).open("r+b") as block:
                write_trace(open_trace(Path(task.path)), block)
        except LongpoleError as error:
            reply.error = str(error)
        sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    work()
