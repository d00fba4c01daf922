"""Figures as text: milliseconds, shares, bytes, counts; and strings from strangers made harmless.

A figure that is not known (None, NaN, infinite) is a dash, never 0.
"""

from __future__ import annotations

import math
import unicodedata

DASH = "–"

# One character for one, so that columns laid out before stay in line.
_ASCII = str.maketrans("·–—…×µ≤≥→’“”−▸▾", '|--~xu<>>\'""->v')


def known(value: float | None) -> bool:
    """Whether there is a finite figure."""
    return value is not None and math.isfinite(value)


def decimals_for(whole_ms: float | None) -> int:
    """How many decimals let the parts of `whole_ms` be seen to sum: 611 none, 57.3 one, 5.12 two."""
    size = abs(whole_ms) if whole_ms is not None and math.isfinite(whole_ms) else 0.0
    return 0 if size >= 500 else 1 if size >= 50 else 2 if size >= 5 else 3


def _three_digits(value: float) -> int:
    size = abs(value)
    return 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3


def number(value: float | None, decimals: int | None = None) -> str:
    """A plain figure of about three digits, or with `decimals`; thousands are set apart by a space.

    What is more than nothing never looks like nothing: 0.01 with one decimal is `<0.1`.
    """
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0 and decimals is None:
        return "0"
    if abs(value) >= 1e15:
        return f"{value:.2g}"
    places = _three_digits(value) if decimals is None else decimals
    text = f"{value:,.{places}f}".replace(",", " ")
    if text.strip("-0."):
        return text
    return f"<{10**-places:.{places}f}" if value > 0 else text.lstrip("-")


def ms(value: float | None, decimals: int | None = None) -> str:
    """Milliseconds with the unit: `611 ms`; a dash where not known."""
    return DASH if not known(value) else f"{number(value, decimals)} ms"


def percent(share: float | None) -> str:
    """A fraction as percent with one decimal: `32.4 %`; a dash where not known."""
    return DASH if share is None or not math.isfinite(share) else f"{number(share * 100, 1)} %"


def _scaled(value: float, steps: tuple[str, ...], base: float) -> str:
    size, unit = value, 0
    while abs(size) >= base * 0.9995 and unit < len(steps) - 1:
        size, unit = size / base, unit + 1
    if unit == 0 and size == int(size):
        return f"{int(size)} {steps[0]}".rstrip()
    return f"{number(size)} {steps[unit]}".rstrip()


def byte_size(value: float | None) -> str:
    """Bytes in binary units: `212 KiB`."""
    if value is None or not math.isfinite(value):
        return DASH
    return _scaled(float(value), ("B", "KiB", "MiB", "GiB", "TiB", "PiB"), 1024.0)


def count(value: float | None) -> str:
    """A count in decimal units: `10.8 M`, `1.25 T`."""
    if value is None or not math.isfinite(value):
        return DASH
    return _scaled(float(value), ("", "k", "M", "G", "T", "P", "E"), 1000.0)


def clean(text: str, limit: int = 400) -> str:
    """One line without control, bidirectional or unencodable characters: safe to print on a terminal."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    if short.isprintable():
        return short
    return "".join("�" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else c for c in short)


def shorten(text: str, width: int) -> str:
    """At most `width` characters, the middle left out: both ends of a path or a line number count."""
    if len(text) <= width:
        return text
    if width < 4:
        return text[: max(width, 0)]
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"


def for_encoding(text: str, encoding: str) -> str:
    """`text` as a stream of that encoding can carry it; typographic signs get plain stand-ins."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    except LookupError:
        return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
    return text
