"""Layers of a live run on a host: what the events of each take in a step, by phase and role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from longpole.analysis.host_costs import cost_at
from longpole.analysis.host_times import FORWARD_PHASES, works_of
from longpole.analysis.optimizer_layers import optimizer_by_layer
from longpole.analysis.study import LayerTime
from longpole.analysis.tree import sums
from longpole.trace import Phase, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from longpole.analysis.attribution import Attribution
    from longpole.analysis.host_times import Times
    from longpole.trace import Trace


def layer_times(trace: Trace, attribution: Attribution, times: Times, least_ms: NDArray[np.float64]) -> list[LayerTime]:
    """Every layer, containers with what is in them; only leaves and containers' own time sum to the step."""
    count = len(trace.layers)
    parts = _layer_parts(attribution, times, count)
    parts["optimizer"] = optimizer_by_layer(trace, attribution, times)
    own = {name: values.copy() for name, values in parts.items()}
    flops, calls = _layer_flops(trace, attribution, times, count), _layer_calls(trace, times, count)
    bound = _by_layer(attribution, works_of(attribution, times), least_ms, count)
    saved = np.array([float(trace.saved_bytes.get(index, 0)) for index in range(count)])
    params = np.array([float(layer.parameters or 0) for layer in trace.layers])
    for values in (*parts.values(), flops, bound, saved, params):
        _add_children(values, trace)
    split = len(trace.gradients.sequence) > 0
    found: list[LayerTime] = []
    for index, layer in enumerate(trace.layers):
        at = {name: float(values[index]) for name, values in parts.items()}
        total = at["forward"] + at["backward"] + at["optimizer"]
        found.append(
            LayerTime(
                layer=layer.path,
                type=layer.type,
                container=layer.container,
                parent=layer.parent,
                params=int(params[index]),
                forward_ms=at["forward"],
                backward_ms=at["backward"],
                input_grad_ms=at["input_grad"] if split else None,
                weight_grad_ms=at["weight_grad"] if split else None,
                recompute_ms=at["recompute"],
                optimizer_ms=at["optimizer"],
                total_ms=total,
                share=total / times.step_ms if times.step_ms else 0.0,
                saved_bytes=int(saved[index]) if trace.saved_bytes else None,
                flops=float(flops[index]) or None,
                bound_ms=float(bound[index]) or None,
                calls=float(calls[index]),
                own_forward_ms=float(own["forward"][index]),
                own_backward_ms=float(own["backward"][index]),
                own_input_grad_ms=float(own["input_grad"][index]) if split else None,
                own_weight_grad_ms=float(own["weight_grad"][index]) if split else None,
                own_ms=sum(float(own[name][index]) for name in ("forward", "backward", "optimizer")),
            )
        )
    return found


def _layer_parts(attribution: Attribution, times: Times, count: int) -> dict[str, NDArray[np.float64]]:
    rows = attribution.rows[attribution.layer[attribution.rows] >= 0]
    layer, ms = attribution.layer[rows], times.ms[rows]
    phase, role = attribution.phase[rows], attribution.role[rows]
    share = np.nan_to_num(attribution.weight_share[rows])
    backward = phase == Phase.BACKWARD
    gradient = backward & np.isin(role, (Role.INPUT_GRAD, Role.WEIGHT_GRAD))
    weights: Mapping[str, NDArray[Any]] = {
        "forward": np.isin(phase, FORWARD_PHASES) * 1.0,
        "backward": backward * 1.0,
        "input_grad": gradient * (1 - share),
        "weight_grad": gradient * share,
        "recompute": (role == Role.RECOMPUTE) * 1.0,
    }
    return {name: sums(layer, ms * part, count) for name, part in weights.items()}


def _add_children(values: NDArray[np.float64], trace: Trace) -> None:
    """Parents stand before their children, so one pass from the end adds everything up."""
    for index in range(len(trace.layers) - 1, -1, -1):
        parent = trace.layers[index].parent
        if parent >= 0:
            values[parent] += values[index]


def _layer_calls(trace: Trace, times: Times, count: int) -> NDArray[np.float64]:
    known = trace.calls.layer >= 0
    return sums(trace.calls.layer[known], times.weight[trace.calls.row[known]], count)


def _layer_flops(trace: Trace, attribution: Attribution, times: Times, count: int) -> NDArray[np.float64]:
    found = np.zeros(count)
    for work in works_of(attribution, times).tolist():
        layer = int(attribution.layer[work])
        cost = cost_at(trace, work) if layer >= 0 else None
        if cost is not None and cost.flops is not None:
            found[layer] += cost.flops * times.weight[work]
    return found


def _by_layer(
    attribution: Attribution, works: NDArray[np.int64], values: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    here = works[(attribution.layer[works] >= 0) & ~np.isnan(values[works])]
    return sums(attribution.layer[here], values[here], count)
