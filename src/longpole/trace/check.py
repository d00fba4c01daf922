"""What must hold of a trace file's numbers before they are used: a file is data, and not to be trusted."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from longpole.trace.kinds import Kind, Level, Phase, Role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.trace.trace import Layer, RunInfo, StepWindow

FAR = 1 << 61  # sums of two stay within 64 bits
COUNTS = ("batch_size", "parameters", "parameters_bytes", "gradients_bytes", "optimizer_bytes", "peak_bytes")
# Smallest and largest value of columns that point at no table.
RANGES: Mapping[str, tuple[float, float]] = {
    "start_ns": (-FAR, FAR),
    "duration_ns": (0, FAR),
    "time_ns": (-FAR, FAR),
    "kind": (0, max(Kind)),
    "flow": (0, max(Phase)),
    "role": (0, max(Role)),
    "weight_share": (0.0, 1.0),
    "sequence": (-FAR, FAR),
    "last_sequence": (-1, FAR),
}
ALWAYS_POINTS = ("name", "lane", "op", "loop_line", "site")


def check_column(name: str, column: NDArray[Any], table_size: int | None) -> None:
    """Raises ValueError where a value points past its table of `table_size` rows, or makes no sense."""
    if not len(column):
        return
    if table_size is not None:
        low, high = (0 if name in ALWAYS_POINTS else -1), table_size - 1
    elif name in RANGES:
        low, high = RANGES[name]
    else:
        return
    if not (low <= column.min() and column.max() <= high):  # NaN is in no range
        raise ValueError(f"{name} is out of its range")


def check_steps(steps: Sequence[StepWindow]) -> None:
    """Raises ValueError where a step is impossible."""
    for step in steps:
        real = 0 <= step.index < FAR and -FAR < step.start_ns < step.end_ns < FAR
        if not real or step.level not in set(Level) or not -1 <= step.first_sequence < FAR:
            raise ValueError(f"step {step.index} is impossible")


def check_layers(layers: Sequence[Layer], known: int) -> None:
    """Raises ValueError where the table shrinks below what is `known`, or is no forest with parents first."""
    if len(layers) < known:
        raise ValueError("layers are gone")
    for row, layer in enumerate(layers):
        sizes = [layer.parameters or 0, layer.trainable or 0, *(n for shape in layer.parameter_shapes for n in shape)]
        if not -1 <= layer.parent < row or not all(0 <= size < FAR for size in sizes):
            raise ValueError(f"layer {row} is impossible")


def check_saved(saved_bytes: Mapping[int, int], layers: int) -> None:
    """Raises ValueError where bytes are negative or belong to no layer; -1 is outside of every layer."""
    if not all(-1 <= row < layers and 0 <= size < FAR for row, size in saved_bytes.items()):
        raise ValueError("saved bytes are impossible")


def check_info(info: RunInfo) -> None:
    """Raises ValueError where a fact that is a number is none."""
    for name in COUNTS:
        text = info.facts.get(name, "0")
        if not (text.isascii() and text.isdecimal()) or int(text[:20]) >= FAR:
            raise ValueError(f"{name} is no count")
    if not 0 <= float(info.facts.get("mark_ns", "0")) < math.inf:
        raise ValueError("mark_ns is no time")


def check_json(name: str, text: str) -> None:
    """Raises ValueError where a description of an op's inputs is none."""
    if not text:
        return
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deep") from error
    if not isinstance(found, list):
        raise ValueError(f"{name} is no list")
    if name == "shapes" and not all(_is_shape(part) or _is_list_of_shapes(part) for part in found):
        raise ValueError("no shapes")
    if name == "dtypes" and not all(isinstance(part, str) for part in found):
        raise ValueError("no types")


def _is_list_of_shapes(part: Any) -> bool:
    return isinstance(part, list) and all(_is_shape(shape) for shape in part)


def _is_shape(part: Any) -> bool:
    return isinstance(part, list) and all(type(size) is int and 0 <= size < FAR for size in part)
