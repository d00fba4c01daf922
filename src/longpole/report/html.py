"""The page: one file that works offline and asks for nothing, under a policy that forbids it to.

The data is gzip in base64, decoded by the browser; every name reaches the page as a text node, so that a
layer called `</script>` is only a strange name. The script and style are built from `web/`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

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
    script, style = _asset("page.js"), _asset("page.css")
    packed = gzip.compress(msgspec.json.encode(data), 6, mtime=0)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    title = escape(clean(f"{study.run.script or study.run.device or 'study'} · longpole", 120))
    plain_report = escape(text_report(study)[:LONGEST_PLAIN]).encode("utf-8", "replace").decode("utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<div id="app"></div>
{memory_section(study.memory)}
<noscript><pre>{plain_report}</pre></noscript>
<script type="text/plain" id="data">{base64.b64encode(packed).decode("ascii")}</script>
<script>{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return (files("longpole.report") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The source expression that lets exactly this inline text run (CSP level 2, hash-source)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
