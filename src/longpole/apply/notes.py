"""What a change has to say about itself, for whoever started this process: `12 of 14 tensors loaded`."""

from __future__ import annotations

said: list[str] = []
