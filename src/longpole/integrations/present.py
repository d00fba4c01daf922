"""How a Study shows itself in a console and in a notebook."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING

from rich.console import Console

from longpole.report.html import page
from longpole.report.terminal import render

if TYPE_CHECKING:
    from longpole.analysis.study import Study

WIDTH = 100


class Plain:
    """The terminal report as text; in a notebook the same, where the whole page would be too much for a cell."""

    def text(self, study: Study) -> str:
        console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
        with console.capture() as captured:
            render(study, console)
        return captured.get()

    def page(self, study: Study) -> str:
        return page(study)

    def html(self, study: Study) -> str:
        return f"<pre style='line-height:1.25'>{html.escape(self.text(study))}</pre>"
