"""A page without a script: the document round a body of escaped HTML, with the style that such pages share."""

from __future__ import annotations

from html import escape

STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.12rem .7rem .12rem 0;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
th{font-weight:500;opacity:.7}.doubt{opacity:.85}
"""


def plain_page(title: str, style: str, body: str) -> str:
    """A whole HTML document. `title` is plain text; `style` is what this page adds; lone surrogates become "?"."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{STYLE}{style}</style></head>
<body>{body}</body></html>
""".encode("utf-8", "replace").decode("utf-8")
