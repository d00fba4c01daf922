"""Where recorded traces and tables lie that are not part of this repository."""

from __future__ import annotations

import os
from pathlib import Path

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def traces_folder() -> Path:
    """The folder of recorded traces; it may be absent."""
    given = os.environ.get("LONGPOLE_TRACES")
    return Path(given) if given else SHARED / "traces"


def trace_files() -> list[Path]:
    """Every recorded trace, or none."""
    folder = traces_folder()
    return [path for path in sorted(folder.glob("*.json*")) if path.name != "EXACT.json"] if folder.is_dir() else []
