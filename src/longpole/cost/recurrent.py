"""Recurrent layers: every time step multiplies x[N, in] and h[N, hidden] with their weights.

Forward is 2 * T * N * (elements of both weights); each gradient is as much. Gates are in the weights' shape
(1, 4 or 3 times hidden for vanilla, LSTM, GRU), so one formula serves all. DeepBench counts the recurrent
product only: `deepbench_flops`.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from longpole.cost.model import Call, Cost
from longpole.trace import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GATES = {"vanilla": 1, "lstm": 4, "gru": 3}


def deepbench_flops(kind: str, hidden: int, batch: int, timesteps: int) -> float:
    """2, 8 or 6 * hidden^2 * batch * timesteps (vanilla, LSTM, GRU): what the published TFLOP/s are made of."""
    return 2.0 * GATES[kind] * hidden * hidden * batch * timesteps


def layer_flops(kind: str, inputs: int, hidden: int, batch: int, timesteps: int) -> float:
    """The whole layer: input and recurrent product."""
    return 2.0 * GATES[kind] * hidden * (inputs + hidden) * batch * timesteps


def _layer(call: Call, role: Role | None = None) -> Cost | None:
    """mkldnn_rnn_layer(x[T, N, in], w_ih[g*h, in], w_hh[g*h, h], ...), and its backward with the same first three."""
    x, w_ih, w_hh = (call.shape(index) for index in range(3))
    if x is None or w_ih is None or w_hh is None or len(x) != 3 or len(w_ih) != 2 or len(w_hh) != 2:
        return None
    flops = 2.0 * x[0] * x[1] * (prod(w_ih) + prod(w_hh))
    each = call.bytes_each(0)
    moved = sum(map(call.bytes_of, range(3))) + x[0] * x[1] * w_hh[1] * each
    if not call.name.endswith("_backward"):
        return Cost(flops, float(moved))
    one = Cost(flops, float(moved))
    return one if role in (Role.INPUT_GRAD, Role.WEIGHT_GRAD) else one + one


def _cudnn(call: Call, role: Role | None = None) -> Cost | None:
    """_cudnn_rnn(x[T, N, in], weights, ...): every matrix among the weights meets every time step."""
    x = call.shape(0)
    weights = call.shapes[1] if len(call.shapes) > 1 else None
    if x is None or len(x) != 3 or not isinstance(weights, (list, tuple)) or call.list_elements(1) is None:
        return None
    matrices = sum(prod(dims) for dims in weights if len(dims) == 2)
    flops = 2.0 * x[0] * x[1] * matrices
    moved = float(call.bytes_of(0) + matrices * call.bytes_each(0))
    one = Cost(flops, moved)
    if not call.name.endswith("_backward"):
        return one
    return one if role in (Role.INPUT_GRAD, Role.WEIGHT_GRAD) else one + one


def _lstm_cell(call: Call) -> Cost | None:
    """Gates input[N, 4h] + hidden[N, 4h], cell[N, h]: 4 sums, 4 curves, f*c + i*g, o*tanh(c): 13 for each h."""
    cell = call.shape(2)
    if cell is None or not call.is_tensor(0):
        return None
    read = sum(map(call.bytes_of, range(3)))
    return Cost(13.0 * prod(cell), float(read + 2 * prod(cell) * call.bytes_each(2)))


FORMULAS: Mapping[str, Callable[[Call], Cost | None]] = {
    "aten::mkldnn_rnn_layer": _layer,
    "aten::mkldnn_rnn_layer_backward": _layer,
    "aten::_cudnn_rnn": _cudnn,
    "aten::_cudnn_rnn_backward": _cudnn,
    "aten::_thnn_fused_lstm_cell": _lstm_cell,
}

BY_ROLE: Mapping[str, Callable[[Call, Role | None], Cost | None]] = {
    "aten::mkldnn_rnn_layer_backward": _layer,
    "aten::_cudnn_rnn_backward": _cudnn,
}
