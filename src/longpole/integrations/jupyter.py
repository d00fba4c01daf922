"""`%longpole` and `%%longpole`: a training loop in a notebook's line or cell, measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longpole.errors import LongpoleError
from longpole.integrations.api import record

if TYPE_CHECKING:
    from longpole.analysis.study import Study


def register(shell: Any) -> None:
    """Adds the magics to an IPython shell."""

    def longpole(line: str, cell: str | None = None) -> Study | None:
        """%longpole STATEMENT, or %%longpole [--steps N] [--warmup N] over a cell that trains."""
        options = _options(line) if cell is not None else {}
        with record(**options) as recording:
            result = shell.run_cell(line if cell is None else cell)
        if result.error_before_exec or result.error_in_exec:
            return None
        try:
            return recording.study()
        except LongpoleError as error:
            print(f"longpole: {error}")
            return None

    shell.register_magic_function(longpole, magic_kind="line_cell", magic_name="longpole")


def _options(line: str) -> dict[str, int]:
    words = line.split()
    known = {"--steps": "steps", "--warmup": "warmup"}
    found: dict[str, int] = {}
    for name, value in zip(words[::2], [*words[1::2], ""], strict=False):
        if name not in known or not value.isdecimal():
            raise LongpoleError(f"%%longpole knows --steps N and --warmup N, not {line!r}")
        found[known[name]] = int(value)
    return found
