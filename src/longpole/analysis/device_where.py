"""Names for where a host thread was: the user's source line, the user's range, or the op."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_marks import STEP_MARK
from longpole.analysis.distinct import distinct_with_inverse
from longpole.analysis.tree import inherit
from longpole.trace import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.trace import Trace

# `file.py(12): function` of the user's own: not of torch, not of the interpreter's library, no builtin.
FRAME = re.compile(r"^(?P<file>[^<(]+\.py)\((?P<line>\d+)\): (?P<function>.+)$")
NOT_THE_USERS = re.compile(
    r"^torch/|site-packages/|dist-packages/|lib/python3|^(threading|runpy|contextlib|functools|typing|enum|abc|copy"
    r"|inspect|queue|selectors|socket|re|os|warnings|weakref|random|logging|tqdm|dataclasses|concurrent|asyncio"
    r"|multiprocessing|importlib|collections|json|pickle)(/|\.py|\()"
)
FRAMEWORKS_OWN = re.compile(
    r"^(Optimizer\.|enumerate\(DataLoader\)|## Call CompiledFxGraph|Torch-Compiled Region|TorchDynamo|Pregraph|\w*AOT"
    r"|DistributedDataParallel\.|FullyShardedDataParallel\.|FSDP::)"
)


def site_of(name: str, kind: int) -> str:
    """What a report calls a range of the user's; "" where the name is no user's."""
    if kind == Kind.PYTHON:
        match = FRAME.match(name)
        if match is None or NOT_THE_USERS.search(name):
            return ""
        return f"{match['file']}:{match['line']} in {match['function']}"
    if STEP_MARK.search(name) or FRAMEWORKS_OWN.search(name):
        return ""
    return name.strip("# ")


def sites(trace: Trace) -> tuple[NDArray[np.int64], list[str]]:
    """For each host row a row of the list: the nearest line or range of the user's round it; -1 where none is."""
    events = trace.events
    rows = events.rows_of(Kind.ANNOTATION, Kind.PYTHON)
    keys = events.name[rows].astype(np.int64) * 16 + events.kind[rows]
    codes, inverse = distinct_with_inverse(keys)
    texts: dict[str, int] = {}
    numbers = np.full(len(codes), -1, dtype=np.int64)
    for index, code in enumerate(codes.tolist()):
        text = site_of(trace.text(code // 16), code % 16)
        if text:
            numbers[index] = texts.setdefault(text, len(texts))
    own = np.full(len(events), -1, dtype=np.int64)
    if len(rows):
        own[rows] = numbers[inverse.reshape(-1)]
    return inherit(own, events.parent), list(texts)
