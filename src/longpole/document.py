"""The HTML that every page stands in: one file that works offline, and a policy that forbids it to ask for anything."""

from __future__ import annotations

import base64
import hashlib
from html import escape

PLAIN_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.12rem .7rem .12rem 0;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
th{font-weight:500;opacity:.7}.doubt{opacity:.85}
"""


def document(title: str, style: str, body: str, script: str = "") -> str:
    """A whole HTML document; lone halves of surrogate pairs become "?".

    `title` is plain text; `body` is HTML, escaped by who made it. `style` and `script` are ours to the last character:
    the policy lets nothing but these two texts act, so a `style="…"` in the body does nothing.
    """
    acting = f"<script>{script}</script>\n" if script else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
{body}
{acting}</body>
</html>
""".encode("utf-8", "replace").decode("utf-8")


def plain_page(title: str, style: str, body: str, script: str = "") -> str:
    """A document in the style that pages of text, tables and drawings share; `style` is what this one adds."""
    return document(title, PLAIN_STYLE + style, body, script)


def _policy(style: str, script: str) -> str:
    scripts = f"script-src '{_hash(script)}'; " if script else ""
    return (
        f"default-src 'none'; {scripts}style-src '{_hash(style)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    """The source expression that lets exactly this inline text act (CSP level 2, hash-source)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
