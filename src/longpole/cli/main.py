"""`longpole`: the commands, each in a file of its own and imported only when it is the one called."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import click

import longpole
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Mapping

# name -> (module with a click command called `command`, one line for --help)
COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("longpole.cli.run", "Run a training script and say where each step goes."),
    "open": ("longpole.cli.open", "Open traces or studies and say where each step went."),
    "compare": ("longpole.cli.compare", "Compare two runs or traces; exit 1 on a slowdown beyond noise."),
    "machine": ("longpole.cli.machine", "Measure what this machine can do."),
    "ops": ("longpole.cli.ops", "Benchmark operations: all of DeepBench, and what networks need now."),
    "survey": ("longpole.cli.survey", "Measure reference networks side by side."),
    "converge": ("longpole.cli.converge", "Seconds to a target: seconds a step times steps, over seeds."),
    "sweep": (
        "longpole.cli.sweep",
        "Vary a script's batch and threads: fixed and per-sample cost, serial and parallel.",
    ),
    "memory": ("longpole.cli.memory", "What memory would cost to give back, and the largest batch that fits."),
    "view": ("longpole.cli.view", "Show a report or a trace in the browser."),
}


class LazyGroup(click.Group):
    """Lists commands without importing them: `--help` must not wait for numpy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(COMMANDS[cmd_name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(longpole.__version__, prog_name="longpole")
def cli() -> None:
    """Where does each training step go, and what would make it faster?"""


def main() -> None:
    """Entry point: an error made for the user's eyes is one line on stderr and exit code 2."""
    try:
        cli(prog_name="longpole")
    except LongpoleError as error:
        click.echo(f"longpole: {error}", err=True)
        sys.exit(2)
