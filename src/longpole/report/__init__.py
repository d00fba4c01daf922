"""Reports: formats only. What is shown comes from a Study; a timeline also needs its Trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from longpole.analysis.study import Study
    from longpole.trace import Trace


def _json(study: Study, _traces: Sequence[Trace], path: Path) -> None:
    study.save(path)


def _text(study: Study, _traces: Sequence[Trace], path: Path) -> None:
    from longpole.report.terminal import text_report

    path.write_text(text_report(study), encoding="utf-8", errors="replace")


def _html(study: Study, traces: Sequence[Trace], path: Path) -> None:
    from longpole.report.html import page

    path.write_text(page(study, traces[0] if traces else None), encoding="utf-8")


def _perfetto(_study: Study, traces: Sequence[Trace], path: Path) -> None:
    from longpole.report.perfetto import write_perfetto

    if not traces:
        raise LongpoleError(f"cannot write {path}: a timeline needs the trace, and this study came without one")
    write_perfetto(traces, path)


# ending -> writer; the longest ending that fits is taken
FORMATS: Mapping[str, Callable[[Study, Sequence[Trace], Path], None]] = {
    ".json": _json,
    ".html": _html,
    ".txt": _text,
    ".perfetto.json": _perfetto,
    ".perfetto.json.gz": _perfetto,
    ".trace.json": _perfetto,
    ".trace.json.gz": _perfetto,
}


def write(study: Study, traces: Sequence[Trace], path: Path) -> None:
    """Writes the format that the ending of `path` names; raises LongpoleError where it cannot."""
    endings = [ending for ending in FORMATS if path.name.endswith(ending)]
    if not endings:
        raise LongpoleError(f"no report format for {path}: its ending can be {', '.join(FORMATS)}")
    try:
        FORMATS[max(endings, key=len)](study, traces, path)
    except OSError as error:
        raise LongpoleError(f"cannot write {path}: {error.strerror or error}; choose another place") from error
