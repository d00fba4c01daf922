"""Numbers of bytes as a user writes them: `8GB`, `512 MiB`, `1.5g`, `300000000`."""

from __future__ import annotations

import re

from longpole.errors import LongpoleError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?i?)b?\s*", re.IGNORECASE)


def parse_bytes(text: str, option: str) -> int:
    """GB is 10^9 and GiB is 2^30 bytes. Raises LongpoleError where it is no size."""
    found = SIZE.fullmatch(text)
    unit = UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None or not float(found[1]):
        raise LongpoleError(f"{option} {text!r}: not a number of bytes; write 8GB, 512MiB or 300000000")
    return int(float(found[1]) * unit)
