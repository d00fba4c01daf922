"""The published tables of DeepBench beside own results, row by row, TFLOP/s from one formula.

Corrected here: all-reduce "GB/s" (bytes x ranks / time in the originals) becomes bus bandwidth; convolution
TFLOP/s with fractional output sizes are recomputed; m = 7860 of the sparse rows is 7680; GRU totals that leave
out forward are added up again. What cannot be corrected is a footnote.
"""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from longpole.bench.results import Row

_DATA = resources.files("longpole.bench") / "data" / "published"
# op -> file, columns that identify a size
_KEYS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "gemm": ("gemm_results", ("m", "n", "k", "a_t", "b_t")),
    "conv": (
        "conv_results",
        ("w", "h", "c", "n", "k", "filter_w", "filter_h", "pad_w", "pad_h", "stride_w", "stride_h"),
    ),
    "rnn": ("rnn_results", ("type", "hidden", "batch", "timesteps")),
    "sparse_gemm": ("sparse_results", ("m", "n", "k", "sparsity")),
    "all_reduce": ("allreduce_results", ("floats", "processors")),
}
# op -> direction of a row of ours -> column of milliseconds
_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "gemm": {"forward": "time_ms"},
    "conv": {"forward": "fwd_ms", "input_grad": "bwd_inputs_ms", "weight_grad": "bwd_params_ms"},
    "rnn": {
        "recurrent forward": "fwd_ms",
        "recurrent input_grad": "bwd_inputs_ms",
        "recurrent weight_grad": "bwd_params_ms",
        "recurrent backward": "bwd_combined_ms",
    },
    "sparse_gemm": {"sparse": "time_sparse_ms", "dense": "time_dense_ms"},
    "all_reduce": {"all_reduce": "time_ms"},
}
_HALF = "half-precision matrices of the original were nearly all zeros (DeepBench #104): up to 15 % too fast"
_TRUNCATED = "times of the original are truncated to whole microseconds, and have no spread"
_INT8 = "products of int8, summed in 32 bits"
_FLOAT_RESULTS = "products of int8, summed in 32 bits; results in floating point"
_NO_WEIGHT_GRAD = "the original did not time recurrent weight gradients before May 2018 (DeepBench #87)"


@dataclass(frozen=True, slots=True)
class Published:
    """One published time of one size and direction."""

    device: str
    sheet: str
    precision: str
    ms: float
    tflops: float | None
    bus_gb_per_s: float | None
    footnotes: tuple[str, ...]


@lru_cache(maxsize=8)
def _rows(file: str) -> tuple[dict[str, str], ...]:
    text = gzip.decompress((_DATA / f"{file}.csv.gz").read_bytes()).decode()
    return tuple(csv.DictReader(io.StringIO(text)))


def devices() -> list[str]:
    """Every device with published results, in alphabetical order."""
    return sorted({row["device"] for file, _ in _KEYS.values() for row in _rows(file)})


def device_called(name: str) -> str:
    """The device whose name ends in or equals `name`, case and maker aside; LongpoleError lists them otherwise."""
    wanted = name.lower().replace("-", "_")
    known = devices()
    exact = [each for each in known if wanted in (each.lower(), each.lower().partition("_")[2])]
    found = exact or [each for each in known if each.lower().endswith(wanted)]
    if len(found) != 1:
        raise LongpoleError(f"no published device {name!r}; there are {', '.join(known)}")
    return found[0]


def published(row: Row, device: str) -> list[Published]:
    """What a device's sheets say for the size and direction of a row of ours; one entry a sheet.

    A size given by flags is looked for in the sheets of every suite.
    """
    if row.op not in _KEYS or row.direction not in _COLUMNS[row.op]:
        return []
    file, names = _KEYS[row.op]
    column, wanted = _COLUMNS[row.op][row.direction], [_number(row.params.get(name, "")) for name in names]
    found: list[Published] = []
    for each in _rows(file):
        if each["device"] != device or row.suite not in {"one", f"deepbench-{each['suite'].replace('_', '-')}"}:
            continue
        if [_number(each[name]) for name in names] == wanted and each[column]:
            found.append(_published(row, each, column))
    return list(dict.fromkeys(found))  # some sheets have a size twice


def _number(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    # The sheets have 16777217 where the header has 16777216, and 1530 where it has 1536.
    return {16777217.0: 16777216.0, 1530.0: 1536.0}.get(number, number)


def _published(row: Row, each: Mapping[str, str], column: str) -> Published:
    ms = float(each[column])
    return Published(
        device=each["device"], sheet=each["sheet"], precision=each["precision"], ms=ms,
        tflops=row.flops / ms / 1e9 if row.flops and ms > 0 else None,
        bus_gb_per_s=float(each["bus_GBps_recomputed"]) if each.get("bus_GBps_recomputed") else None,
        footnotes=_footnotes(row, each, ms),
    )  # fmt: skip


def _footnotes(row: Row, each: Mapping[str, str], ms: float) -> tuple[str, ...]:
    notes: list[str] = []
    if row.op == "gemm" and "16" in each["sheet"]:
        notes.append(_HALF)
    if row.op in {"gemm", "conv"} and "Int8" in each["precision"]:
        notes.append(_FLOAT_RESULTS if "in float" in each["precision"] and row.op == "conv" else _INT8)
    if ms < 0.1:
        notes.append(_TRUNCATED)
    if row.op == "rnn" and ("AMD" in each["device"] or "Psuedo" in each["sheet"]):
        notes.append(_NO_WEIGHT_GRAD)
    if row.op == "sparse_gemm" and each["m"] == "7860":
        notes.append("the header's m = 7860 is a slip for 7680")
    return tuple(notes)
