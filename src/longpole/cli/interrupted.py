"""Ctrl-C in a command that runs scripts: what has finished is told first, and then the process ends by the signal."""

from __future__ import annotations

import signal
from typing import NoReturn

import click

from longpole.capture.launch import Outcome, leave

INTERRUPTED = 128 + signal.SIGINT


def leave_interrupted(said: str = "") -> NoReturn:
    """Ends this process as Ctrl-C ends any other, 130 in a shell, so that a loop around it ends with it."""
    if said:
        click.echo(f"longpole: interrupted {said}", err=True)
    leave(Outcome(INTERRUPTED, "interrupt"))
