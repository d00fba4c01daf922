"""FLOPs and bytes of the ops of a live run on a host, whose shapes and types are JSON in the event table."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from longpole.cost import cost_of

if TYPE_CHECKING:
    from longpole.cost import Cost
    from longpole.trace import Trace


def cost_at(trace: Trace, row: int) -> Cost | None:
    """FLOPs and bytes of the op at this row."""
    events = trace.events
    columns = (events.shapes, events.dtypes, events.concrete)
    shapes, dtypes, concrete = (trace.text(int(column[row])) for column in columns)
    return _cost(trace.name_of(row), shapes, dtypes, concrete)


@lru_cache(maxsize=65536)
def _cost(name: str, shapes: str, dtypes: str, concrete: str) -> Cost | None:
    if not shapes:
        return None
    return cost_of(
        name,
        json.loads(shapes),
        dtypes=json.loads(dtypes) if dtypes else (),
        concrete=json.loads(concrete) if concrete else (),
    )
