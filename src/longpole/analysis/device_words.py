"""Figures inside sentences, as the answers of a live run write them."""

from __future__ import annotations


def ms(value: float) -> str:
    """Three digits and the unit, never an exponent: `46.9 ms`, `12920 ms`."""
    return f"{plain(value)} ms"


def plain(value: float) -> str:
    """Three digits without a unit and without an exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else "<0.001"


def percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.1f} %"


def a_(figure: str) -> str:
    """The figure with its article: "a 214 ms", "an 84.5 ms"."""
    spoken_as_vowel = figure.startswith("8") or figure.split(".", maxsplit=1)[0].split(maxsplit=1)[0] in ("11", "18")
    return f"{'an' if spoken_as_vowel else 'a'} {figure}"
