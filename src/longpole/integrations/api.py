"""The same from Python: `longpole.record()` round a training loop, `longpole.open()` for traces and studies."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from longpole.analysis.make import study as make_study
from longpole.analysis.study import Study, load_study, present_with
from longpole.capture.plan import WindowOptions
from longpole.errors import LongpoleError
from longpole.importers import open_traces
from longpole.integrations.present import Plain
from longpole.trace.trace import RunInfo

if TYPE_CHECKING:
    from types import TracebackType

    from longpole.capture.recorder import Recorder
    from longpole.trace.trace import Trace

__all__ = ["Recording", "Study", "open", "record"]

present_with(Plain())


class Recording:
    """A training loop under measurement, between `with` and the end of the window. Made by `record`."""

    def __init__(self, options: WindowOptions) -> None:
        self._options = options
        self._recorder: Recorder | None = None
        self._trace: Trace | None = None

    def __enter__(self) -> Recording:
        try:
            from longpole.capture.recorder import Recorder
        except ModuleNotFoundError as error:
            raise LongpoleError(f"longpole.record() needs torch in {sys.executable}: {error}") from error
        self._recorder = Recorder(self._options)
        self._recorder.builder.info = RunInfo(script=sys.argv[0] or None, argv=tuple(sys.argv[1:]))
        self._recorder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._recorder is not None:
            how = "interrupt" if kind is KeyboardInterrupt else "error" if kind is not None else "script end"
            self._recorder.finish(how)

    def step(self) -> None:
        """Ends a turn of the loop. Without any call, turns are found from the optimizers."""
        if self._recorder is not None:
            self._recorder.step()

    @property
    def trace(self) -> Trace:
        """What was recorded so far. Raises LongpoleError before `with`."""
        if self._recorder is None:
            raise LongpoleError("nothing is recorded yet: use `with longpole.record() as recording:`")
        return self._recorder.builder.build()

    def study(self) -> Study:
        """What was measured so far. Raises LongpoleError where no step was."""
        return make_study([self.trace])


def record(*, steps: int = 20, warmup: int = 5, budget_s: float = 120.0) -> Recording:
    """Measures the training loop inside `with`: `steps` timed steps after `warmup`, for at most `budget_s` seconds."""
    return Recording(WindowOptions(steps=steps, warmup=warmup, budget_s=budget_s))


def open(*paths: str | Path) -> Study:  # noqa: A001 - longpole.open reads best
    """The study of trace files, one a rank, or of a `study.json`.

    Raises LongpoleError where a file is none that longpole reads.
    """
    found = [Path(path) for path in paths]
    if not found:
        raise LongpoleError("longpole.open() needs the path of a trace or a study")
    if len(found) == 1 and found[0].name.endswith(".json") and _is_study(found[0]):
        return load_study(found[0].read_bytes(), str(found[0]))
    return make_study(open_traces(found))


def _is_study(path: Path) -> bool:
    try:
        with builtins.open(path, "rb") as file:
            return b'"longpole.study"' in file.read(200)
    except OSError as error:
        raise LongpoleError(f"cannot read {path}: {error.strerror}") from error
