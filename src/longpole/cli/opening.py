"""What the user named, opened: trace files, folders of them, patterns, studies, folders of runs."""

from __future__ import annotations

import glob
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.device_rank import OneRank
    from longpole.analysis.study import Study
    from longpole.trace import Trace

TRACE_ENDINGS = (".json", ".json.gz", ".pftrace", ".pftrace.gz", ".perfetto-trace", ".longpole")
STUDY_FILES = ("study.json", "report.json")
OWN_TRACE = "trace.longpole"
MOST_FILES = 4096
HEAD_BYTES = 400
RANKS_AT_ONCE = "longpole.cli.ranks_at_once"  # what processes run that study a rank each


@dataclass(frozen=True, slots=True)
class Opened:
    """A study and the traces it was made from: none where only the study was given."""

    study: Study
    traces: list[Trace] = field(default_factory=list["Trace"])


def open_paths(paths: Sequence[Path], step: int | None = None) -> Opened:
    """The study of everything named; `step` narrows it to one step. Raises LongpoleError with what to do."""
    files = files_of(paths)
    studies = [file for file in files if is_study(file)]
    traces = [file for file in files if file not in studies]
    if len(studies) > 1 or (studies and traces and not _one_run(studies[0], traces)):
        raise LongpoleError(f"{studies[0]} is a study: open one at a time, or longpole compare A B for two")
    if studies and step is None:
        from longpole.analysis.study import load_study

        return Opened(load_study(_read(studies[0]), str(studies[0])), _if_readable(traces))
    ranks = _studied_at_once(traces, step) if len(traces) > 1 else None
    if ranks is not None:
        return Opened(_study([rank.trace for rank in ranks], step, ranks), [rank.trace for rank in ranks])
    opened = read_traces(traces)
    if not opened:
        raise LongpoleError(f"{studies[0]} is a study and has no steps to choose from: --step needs the trace")
    return Opened(_study(opened, step), opened)


def read_traces(files: Sequence[Path]) -> list[Trace]:
    """Traces of longpole's own and of others, by rank."""
    from longpole.importers import open_traces
    from longpole.trace.store import is_store, read_trace

    own = [file for file in files if is_store(file)]
    others = [file for file in files if file not in own]
    return [read_trace(file) for file in own] + (open_traces(others) if others else [])


def _if_readable(traces: Sequence[Path]) -> list[Trace]:
    """The traces beside a study; it can be read without them, so that a damaged one is no reason to stop."""
    try:
        return read_traces(traces)
    except LongpoleError:
        return []


def _studied_at_once(files: Sequence[Path], step: int | None) -> list[OneRank] | None:
    from longpole.cli.ranks_at_once import studied_at_once

    return studied_at_once(files, step)


def _study(traces: list[Trace], step: int | None, ranks: list[OneRank] | None = None) -> Study:
    if step is None:
        from longpole.analysis.make import study

        return study(traces, studied=ranks)
    from longpole.analysis.device import device_study, study_of_ranks

    return study_of_ranks(ranks) if ranks else device_study(traces, step)


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files that all of these stand for. Raises LongpoleError where one stands for none."""
    return [file for path in paths for file in _files(path)]


def _files(path: Path) -> list[Path]:
    """The files that a path stands for. Raises LongpoleError where there are none."""
    if path.is_dir():
        return _in_folder(path)
    if path.is_fifo():  # opening it would wait for a writer for ever
        raise LongpoleError(f"{path} is a pipe; give a file, gzipped or not")
    if path.exists():
        return [path]
    if any(sign in str(path) for sign in "*?["):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        files = [file for name in found[:MOST_FILES] for file in _files(name)]
        if files:
            return files
        raise LongpoleError(f"{path}: no file fits this pattern")
    raise LongpoleError(f"{path}: no such file; give a trace that torch.profiler wrote, or a folder of them")


def _in_folder(folder: Path) -> list[Path]:
    """A run's study and own trace, else every trace of the folder."""
    try:
        names = sorted(file for file in folder.iterdir() if file.is_file())
    except OSError as error:
        raise LongpoleError(f"cannot read {folder}: {error.strerror}") from error
    run = [file for file in names if file.name in (*STUDY_FILES[:1], OWN_TRACE)]
    traces = run or [file for file in names if file.name.endswith(TRACE_ENDINGS) and file.name not in STUDY_FILES]
    if not traces:
        raise LongpoleError(
            f"{folder} holds no trace: none of its {len(names)} files ends in {', '.join(TRACE_ENDINGS)}"
        )
    if len(traces) > MOST_FILES:
        raise LongpoleError(f"{folder} holds {len(traces)} traces; name those to open, at most {MOST_FILES}")
    return traces


def _one_run(study: Path, traces: Sequence[Path]) -> bool:
    return all(trace.parent == study.parent and trace.name == OWN_TRACE for trace in traces)


def is_study(path: Path) -> bool:
    """Whether a file starts as a study's JSON does. Raises LongpoleError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return b'"longpole.study"' in file.read(HEAD_BYTES)
    except OSError as error:
        raise LongpoleError(f"cannot read {path}: {error.strerror}; check its name and your rights") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LongpoleError(f"cannot read {path}: {error.strerror}") from error
