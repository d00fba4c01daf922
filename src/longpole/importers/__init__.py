"""Trace files of others into the event table. Importing this imports no numpy: processes start while it loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longpole.importers.formats import IMPORTERS, open_trace, open_traces

__all__ = ["IMPORTERS", "open_trace", "open_traces"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from longpole.importers import formats

        return getattr(formats, name)
    raise AttributeError(f"module 'longpole.importers' has no attribute {name!r}")
