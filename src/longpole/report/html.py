"""The page: one file that works offline and asks for nothing, under a policy that forbids it to.

The data is gzip in base64, decoded by the browser; every name reaches the page as a text node, so that a
layer called `</script>` is only a strange name. The script and style are built from `web/`.
"""

from __future__ import annotations

import base64
import gzip
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from longpole.document import document
from longpole.report.cut import Limits, cut, short_texts
from longpole.report.figures import clean
from longpole.report.memorypicture import memory_section
from longpole.report.onestep import one_step
from longpole.report.terminal import text_report

if TYPE_CHECKING:
    from longpole.analysis.study import Study
    from longpole.trace import Trace

MOST_BYTES = 5_000_000
LONGEST_PLAIN = 60_000  # of the text for browsers that run no script


def page(study: Study, trace: Trace | None = None) -> str:
    """A whole HTML document of at most 5 MB; `trace` adds the timeline of one step."""
    limits = Limits()
    while True:
        document = _document(study, payload(study, trace, limits))
        if len(document) <= MOST_BYTES or limits.layers < 16:
            return document
        limits = limits.halved()


def payload(study: Study, trace: Trace | None, limits: Limits) -> dict[str, Any]:
    """What the page shows, as plain data: the study, one step's bars, and what was cut."""
    data, said = cut(study, limits)
    timeline = one_step(trace, limits.bars) if trace is not None else None
    if timeline is not None and timeline["left_out"]:
        said.append(f"The timeline leaves out the {timeline['left_out']:,} shortest events of its step.")
    return {"study": data, "timeline": short_texts(timeline), "cut": said}


def _document(study: Study, data: dict[str, Any]) -> str:
    packed = gzip.compress(msgspec.json.encode(data), 6, mtime=0)
    title = clean(f"{study.run.script or study.run.device or 'study'} · longpole", 120)
    body = f"""<div id="app"></div>
{memory_section(study.memory)}
<noscript><pre>{escape(text_report(study)[:LONGEST_PLAIN])}</pre></noscript>
<script type="text/plain" id="data">{base64.b64encode(packed).decode("ascii")}</script>"""
    return document(title, _asset("page.css"), body, _asset("page.js"))


def _asset(name: str) -> str:
    return (files("longpole.report") / "assets" / name).read_text(encoding="utf-8")
