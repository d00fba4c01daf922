"""JSON as profilers really write it: NaN, raw control characters, Windows paths, broken UTF-8."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

BAD_ESCAPE = re.compile(r'\\(?!["\\/bfnrt]|u[0-9a-fA-F]{4})')
BARE_WORD = re.compile(r"(?<=[:\[,])(\s*)[-+]?(?:nan|inf|infinity)\b(?:\(\w*\))?(?=\s*[,\]}])", re.IGNORECASE)
TRAILING_COMMA = re.compile(r",(?=\s*[\]}])")


def loads_leniently(text: bytes) -> Any:
    """The value, by the strict parser or else by repairs; None where nothing helps."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    decoded = text.decode("utf-8", "replace")
    found = _loads(decoded)
    return found if found is not None else _loads(_repaired(decoded))


def _loads(text: str) -> Any:
    try:
        return _printable(json.loads(text, strict=False))
    except (ValueError, RecursionError):
        return None


def _repaired(text: str) -> str:
    text = BAD_ESCAPE.sub(r"\\\\", text)
    text = BARE_WORD.sub(r"\1null", text)
    return TRAILING_COMMA.sub("", text)


def _printable(value: Any) -> Any:
    """The same value without lone surrogates, which no file or terminal would take."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
