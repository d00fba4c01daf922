"""Several ranks studied by processes at once: each reads and studies one trace, this one puts them together."""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from longpole.cli.opening import RANKS_AT_ONCE
from longpole.errors import LongpoleError
from longpole.importers.kept_memory import keep_freed_memory
from longpole.importers.parallel import ask_about_all
from longpole.importers.shipping import read_trace, write_trace
from longpole.importers.workers import Reply, Task, can_start, cores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from mmap import mmap

    from longpole.analysis.device_rank import OneRank

PLACE_BYTES = 8
LEAST_COLUMN_BYTES = 4096  # what is smaller is pickled, larger columns are looked at where they lie
ALIGNMENT = 64


class Rest(msgspec.Struct, array_like=True):
    """What stands in a block after the trace: all that was found of a rank, and where its columns lie."""

    columns: list[tuple[int, int]]
    pickled: bytes


def studied_at_once(files: Sequence[Path], step: int | None) -> list[OneRank] | None:
    """Each rank by itself, sorted by rank; None where one process is to do it. Raises LongpoleError as opening does."""
    from longpole.importers.own import is_own

    workers = min(len(files), cores())
    if workers < 2 or not can_start() or any(is_own(file) for file in files):
        return None
    ranks = ask_about_all([Task(str(file), step=step) for file in files], workers, RANKS_AT_ONCE, _taken)
    return sorted(ranks, key=lambda one: (one.trace.info.rank is None, one.trace.info.rank or 0))


def _taken(block: mmap) -> OneRank:
    """What `_put` wrote. Pickle is for what a process of ours just made; a file never is."""
    from longpole.analysis.device_rank import OneRank

    view = memoryview(block)
    place = int.from_bytes(view[-PLACE_BYTES:], "little")
    rest = msgspec.msgpack.decode(view[place:-PLACE_BYTES], type=Rest)
    columns = [view[low:high] for low, high in rest.columns]
    return OneRank(read_trace(block), *pickle.loads(rest.pickled, buffers=columns))


def _put(one: OneRank, block: BinaryIO) -> None:
    write_trace(one.trace, block)
    columns: list[memoryview] = []

    def is_small(column: pickle.PickleBuffer) -> bool:
        raw = column.raw()
        if raw.nbytes < LEAST_COLUMN_BYTES:
            return True
        columns.append(raw)
        return False

    found = (one.turns, one.marks, one.whole, one.rank, one.communication, one.alone)
    pickled = pickle.dumps(found, protocol=5, buffer_callback=is_small)
    places = [_written(column, block) for column in columns]
    place = block.seek(0, io.SEEK_END)
    block.write(msgspec.msgpack.encode(Rest(places, pickled)) + place.to_bytes(PLACE_BYTES, "little"))


def _written(column: memoryview, block: BinaryIO) -> tuple[int, int]:
    """Where the column begins and ends in the block, at whose end it was put."""
    end = block.seek(0, io.SEEK_END)
    start = block.seek(end + -end % ALIGNMENT)
    block.write(column)
    return start, start + column.nbytes


def _answer(task: Task) -> Reply:
    from longpole.analysis.device_rank import one_rank
    from longpole.importers import open_trace

    try:
        with Path(task.place).open("r+b") as block:
            _put(one_rank(open_trace(Path(task.path), workers=1), task.step), block)
    except LongpoleError as error:
        return Reply(error=str(error))
    return Reply()


def work() -> None:
    """Answers each task of standard input with a line on standard output."""
    keep_freed_memory()
    for line in sys.stdin.buffer:
        reply = _answer(msgspec.json.decode(line, type=Task))
        sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    work()
