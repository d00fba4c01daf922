"""Ctrl-C, as a terminal sends it to a command and to all that the command has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PATIENCE_S = 300
# A shell's background job, and so whatever runs the tests, may have Ctrl-C ignored.
LISTEN = (
    "import signal, sys, runpy; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv[0] = 'longpole'; "
    "runpy.run_module('longpole', run_name='__main__')"
)


def interrupted(words: Sequence[str], folder: Path, when: Path) -> tuple[int, str]:
    """The exit code of `longpole WORDS` in `folder` and what it said: Ctrl-C comes once the file `when` is there."""
    command = [sys.executable, "-c", LISTEN, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not when.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    return process.returncode, said
