"""Figures of recorded GPU traces, to stand beside a survey's: those in the folder that $LONGPOLE_TRACES names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from longpole.survey.answers_page import Recorded

VARIABLE = "LONGPOLE_TRACES"
MOST_BYTES = 64 * 2**20  # of one file; larger ones are left out


def recorded() -> list[Recorded]:
    """Every trace of a GPU in the folder that shows forward and backward, one rank of each run."""
    folder = os.environ.get(VARIABLE)
    if not folder or not Path(folder).is_dir():
        return []
    places = [path for path in sorted(Path(folder).iterdir()) if path.name.endswith((".json", ".json.gz"))]
    by_run: dict[str, Path] = {}
    for path in places:
        if path.stat().st_size <= MOST_BYTES:
            by_run.setdefault(_run_of(path), path)
    found = [_recorded(name, path) for name, path in by_run.items()]
    return [one for one in found if one is not None]


def _run_of(path: Path) -> str:
    """The name of the run: what ranks of one run have in common."""
    name = path.name.partition(".")[0].replace("__", " ")
    return re.sub(r"[-_ ]*(\b|_)([0-9a-f]{5}-)?rank[-_]?\d+.*$", "", name) or name


def _recorded(name: str, path: Path) -> Recorded | None:
    from longpole.analysis.make import study
    from longpole.importers import open_traces
    from longpole.survey.answers_page import Recorded
    from longpole.survey.figures import figures_of
    from longpole.survey.rows import backward_to_forward

    try:
        made = study(open_traces([path]))
        figures = figures_of(made)
    except (LongpoleError, ValueError):
        return None
    on_device = made.ranks and made.ranks[0].timeline is not None
    if not on_device or backward_to_forward(figures) is None:
        return None
    device = made.run.device or made.ranks[0].device or "not named"
    return Recorded(name, device, figures)
