"""Keeps a page readable: a study of any size becomes at most some 20,000 rows, and what was cut is said.

Small layers, ops and steps are merged, never dropped in silence: their sums stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from longpole.report.figures import clean, known

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.analysis.device_results import CommunicationTime
    from longpole.analysis.study import LayerTime, OpTime, Rank, Study

LONGEST_TEXT, MOST_SENTENCES = 600, 200


@dataclass(frozen=True, slots=True)
class Limits:
    """How many rows of each kind a page takes: together under 20,000."""

    layers: int = 10_000
    ops: int = 2_500
    communication: int = 500
    rank_steps: int = 1_000
    samples: int = 1_000
    bars: int = 5_000

    def halved(self) -> Limits:
        return Limits(
            self.layers // 2,
            self.ops // 2,
            self.communication // 2,
            self.rank_steps // 2,
            self.samples // 2,
            self.bars // 2,
        )


def cut(study: Study, limits: Limits) -> tuple[dict[str, Any], list[str]]:
    """The study as plain data for a page, and a sentence for each thing that was cut."""
    said: list[str] = []
    data: dict[str, Any] = msgspec.to_builtins(study)
    data["layers"] = _layers(study.layers, limits.layers, said)
    data["ops"] = _ops(study.ops, limits.ops, said)
    data["ranks"] = _ranks(study.ranks, limits.rank_steps, said)
    data["communication"] = _communication(study.communication, limits.communication, said)
    data["memory"]["timeline"] = None  # drawn beside, as a picture
    data["memory"]["saved_by_layer"] = data["memory"]["saved_by_layer"][: limits.layers]
    for row in (*data["phases"], *data["layers"], *data["op_classes"], *data["ops"]):
        row.pop("samples", None)  # values of each step: for `compare`, and many
    for row in data["layers"]:
        row["saved_parts"] = []
    _shorten_lists(data, said)
    samples = data["step"]["samples"]
    if len(samples) > limits.samples:
        data["step"]["samples"] = _thinned(samples, limits.samples)
        said.append(f"Of {len(samples)} step times {len(data['step']['samples'])} are drawn, evenly chosen.")
    return short_texts(data), said


def _shorten_lists(data: dict[str, Any], said: list[str]) -> None:
    """Sentences and places, of which a study has few; a file from elsewhere may have any number."""
    lists = {"warnings": data["run"], "answers": data, "findings": data}
    for name, holder in lists.items():
        if len(holder[name]) > MOST_SENTENCES:
            said.append(f"Of {len(holder[name]):,} {name} the first {MOST_SENTENCES} are shown.")
            holder[name] = holder[name][:MOST_SENTENCES]
    data["run"]["facts"] = dict(list(data["run"]["facts"].items())[:MOST_SENTENCES])
    for phase in data["phases"]:
        phase["sites"] = sorted(phase["sites"], key=lambda site: -_size(site["ms"]))[:MOST_SENTENCES]


def _kept(values: Sequence[float], limit: int) -> set[int]:
    """Row numbers of the `limit` largest values; what is not known counts as nothing."""
    sizes = [value if known(value) else -1.0 for value in values]
    return set(sorted(range(len(sizes)), key=lambda i: -sizes[i])[:limit])


def _layers(layers: Sequence[LayerTime], limit: int, said: list[str]) -> list[dict[str, Any]]:
    if len(layers) <= limit:
        return [msgspec.to_builtins(layer) for layer in layers]
    # A container comes before its children in rank, so that no kept layer loses the module round it.
    totals = [_size(x.total_ms) + (1e-9 if x.container else 0.0) for x in layers]
    keep = _kept(totals, limit)
    out = [msgspec.to_builtins(layers[i]) for i in range(len(layers)) if i in keep]
    rest = [layers[i] for i in range(len(layers)) if i not in keep and not layers[i].container]
    if rest:
        out.append(_sum_of_layers(rest))
    said.append(f"Of {len(layers):,} layers the {len(keep):,} largest are listed; the rest are one row.")
    return out


def _size(value: float | None) -> float:
    return value if value is not None and known(value) else 0.0


SUMMED = ("forward_ms", "backward_ms", "input_grad_ms", "weight_grad_ms", "recompute_ms", "optimizer_ms", "total_ms",
          "share", "saved_bytes", "flops", "bound_ms", "params")  # fmt: skip


def _sum_of_layers(layers: Sequence[LayerTime]) -> dict[str, Any]:
    row: dict[str, Any] = {"layer": f"({len(layers):,} smaller layers)", "type": "", "container": False}
    for name in SUMMED:
        values = [value for layer in layers if (value := getattr(layer, name)) is not None and known(value)]
        row[name] = sum(values) if values else None
    return row


def _ops(ops: Sequence[OpTime], limit: int, said: list[str]) -> list[dict[str, Any]]:
    if len(ops) <= limit:
        return [msgspec.to_builtins(op) for op in ops]
    keep = _kept([op.ms for op in ops], limit)
    rest = [ops[i].ms for i in range(len(ops)) if i not in keep and known(ops[i].ms)]
    out = [msgspec.to_builtins(ops[i]) for i in range(len(ops)) if i in keep]
    out.append({"op": f"({len(ops) - len(keep):,} smaller rows)", "op_class": "", "role": "", "ms": sum(rest)})
    said.append(f"Of {len(ops):,} rows of ops the {len(keep):,} largest are listed; the rest are one row.")
    return out


def _communication(rows: Sequence[CommunicationTime], limit: int, said: list[str]) -> list[dict[str, Any]]:
    if len(rows) > limit:
        said.append(f"Of {len(rows):,} rows of communication the {limit:,} least covered are listed.")
    keep = _kept([row.exposed_ms for row in rows], limit)
    return [msgspec.to_builtins(rows[i]) for i in range(len(rows)) if i in keep]


def _ranks(ranks: Sequence[Rank], limit: int, said: list[str]) -> list[dict[str, Any]]:
    """Ranks with their steps; where there are too many, every n-th step, and of the ranks the first ones."""
    total = sum(len(rank.steps) for rank in ranks)
    out = [msgspec.to_builtins(rank) for rank in ranks[:limit]]
    if len(ranks) > limit:
        said.append(f"Of {len(ranks):,} ranks the first {limit:,} are listed.")
    if total > limit:
        each = max(limit // max(len(out), 1), 1)
        for rank in out:
            rank["steps"] = _thinned(rank["steps"], each)
        said.append(f"Of {total:,} steps of all ranks {each} a rank are drawn, evenly chosen.")
    return out


def _thinned(rows: list[Any], limit: int) -> list[Any]:
    count = max(limit, 1)
    return rows if len(rows) <= count else [rows[i * len(rows) // count] for i in range(count)]


def short_texts(value: Any) -> Any:
    """Every text at most 600 characters, harmless and encodable; figures that are none become None."""
    if isinstance(value, str):
        return clean(value, LONGEST_TEXT)
    if isinstance(value, float):
        return value if known(value) else None
    return _inside(value, short_texts)


def _inside(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {change(str(key)): change(part) for key, part in value.items()}
    return [change(part) for part in value] if isinstance(value, (list, tuple)) else value
