"""How many threads a command may be asked to give torch."""

from __future__ import annotations

import click

# The system gives a process no more stacks than it has room for, and torch then ends by a signal.
THREADS = click.IntRange(1, 1024)
