"""How a duration is told: three digits, in the unit that suits it."""

from __future__ import annotations


def span(seconds: float, minutes: str = "minutes") -> str:
    """`16.7 minutes`, `2.5 ms`: of minutes, hours and days at least two. Tables give a shorter name for `minutes`."""
    for size, unit in ((86_400.0, "days"), (3600.0, "hours"), (60.0, minutes), (1.0, "s"), (1e-3, "ms")):
        if seconds >= size * (2 if size >= 60 else 1):
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds * 1e6:,.3g} us"
