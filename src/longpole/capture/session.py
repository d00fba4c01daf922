"""One `longpole run`: waits for torch, records, and reports once, whatever happens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from longpole.capture.imports import ImportWatch
from longpole.capture.random_state import undrawn
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from longpole.capture.plan import WindowOptions
    from longpole.capture.recorder import Recorder
    from longpole.trace.store import TraceWriter
    from longpole.trace.trace import RunInfo, Trace


class Session:
    """Between `begin` and `end` a script runs. `report` is called at most once, with what was measured.

    `prepare` is called when torch is there, before anything is measured; where it fails, nothing is.
    """

    def __init__(
        self,
        options: WindowOptions,
        info: RunInfo,
        trace_file: Path | None,
        report: Callable[[Trace], None],
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self.recorder: Recorder | None = None
        self.reported = False
        self.problem: str | None = None
        self.trace_problem: str | None = None
        self._options = options
        self._info = info
        self._trace_file = trace_file
        self._report = report
        self._prepare = prepare
        self._process = os.getpid()
        self._watch = ImportWatch("torch", self._torch_is_there)

    def begin(self) -> None:
        self._watch.start()

    def end(self, how: str) -> None:
        """The script is over, in this process; children that were forked from it never come here."""
        self._watch.stop()
        if self.recorder is None or self.is_elsewhere:
            return
        with undrawn():  # what the script left for the exit may draw
            self.recorder.finish(how)
            self._tell()

    @property
    def is_elsewhere(self) -> bool:
        """Whether this is a child that the script forked: nothing is measured or told there."""
        return os.getpid() != self._process

    def _torch_is_there(self) -> None:
        """Nothing that fails here may reach the script, which is in the middle of `import torch`."""
        try:
            self._prepare()
            self._start()
        except LongpoleError as error:
            self.problem = str(error)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"

    def _start(self) -> None:
        from longpole.capture.recorder import Recorder

        recorder = Recorder(self._options, self._writer())
        recorder.builder.info = self._info
        recorder.on_over = self._over
        recorder.start()
        self.recorder = recorder

    def _writer(self) -> TraceWriter | None:
        """A place that cannot be written, or a full disk, spoils the trace file and not the measuring."""
        from longpole.trace.store import TraceWriter

        try:
            return TraceWriter(self._trace_file) if self._trace_file is not None else None
        except LongpoleError as error:
            self.trace_problem = str(error)
            return None

    def _over(self) -> None:
        """The window is measured while the script goes on: the answer need not wait for its end."""
        if self.recorder is not None:
            with undrawn():
                self.recorder.finish()
                self._tell()

    def _tell(self) -> None:
        if self.reported or self.recorder is None:
            return
        if self.recorder.trace_failure:
            self.trace_problem = f"the trace in {self._trace_file} is not whole: {self.recorder.trace_failure}"
        try:
            trace = self.recorder.builder.build()
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"
            return
        if any(step.level for step in trace.steps):
            self.reported = True
            self._report(trace)
