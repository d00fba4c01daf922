"""Fused attention: q[batch, heads, s, d], k[batch, kv_heads, t, d], v[batch, kv_heads, t, e].

Forward is two products, q @ k.T and p @ v. Backward of the fused kind is five: it makes q @ k.T again, then dv,
dp, dq, dk. Under a causal mask only pairs with key <= query count (aligned at the top left, as torch does);
`flops` then counts those pairs only, which torch.utils.flop_counter does not do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.cost.model import Call, Cost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def causal_pairs(queries: int, keys: int) -> float:
    """Pairs with key <= query."""
    full = min(queries, keys)
    return full * (full + 1) / 2 + max(0, queries - keys) * keys


def _attention(call: Call, q_at: int, causal_at: int, *, backward: bool, heads_at: int = 1) -> Cost | None:
    q, k, v = (call.shape(q_at + offset) for offset in range(3))
    if q is None or k is None or v is None or not len(q) == len(k) == len(v) == 4:
        return None
    sequence_at = 3 - heads_at
    s, t, heads = q[sequence_at], k[sequence_at], q[0] * q[heads_at]
    products = 3 * q[3] + 2 * v[3] if backward else q[3] + v[3]
    full, least = (2.0 * heads * pairs * products for pairs in (s * t, causal_pairs(s, t)))
    causal = call.value(causal_at) if causal_at >= 0 else None
    output = heads * s * v[3] * call.bytes_each(q_at)
    inputs = sum(call.bytes_of(q_at + offset) for offset in range(3))
    # Backward also reads the output and its gradient, and writes a gradient for each input.
    moved = 2 * inputs + 2 * output if backward else inputs + output
    known = isinstance(causal, bool)
    flops = least if causal is True else full
    return Cost(flops, float(moved), None if known else least)


# name -> (input q is, input that says "causal" or -1, backward); native_functions.yaml of torch 2.13
_WHERE: Mapping[str, tuple[int, int, bool]] = {
    "aten::_scaled_dot_product_flash_attention_for_cpu": (0, 4, False),
    "aten::_scaled_dot_product_flash_attention": (0, 4, False),
    "aten::_scaled_dot_product_efficient_attention": (0, 6, False),
    "aten::_scaled_dot_product_cudnn_attention": (0, 6, False),
    "aten::_scaled_dot_product_fused_attention_overrideable": (0, 5, False),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": (1, 7, True),
    "aten::_scaled_dot_product_flash_attention_backward": (1, 11, True),
    "aten::_scaled_dot_product_efficient_attention_backward": (1, 11, True),
    "aten::_scaled_dot_product_cudnn_attention_backward": (1, 14, True),
}


def _formula(q_at: int, causal_at: int, backward: bool) -> Callable[[Call], Cost | None]:
    return lambda call: _attention(call, q_at, causal_at, backward=backward)


def _flash_package(call: Call) -> Cost | None:
    """flash-attn's own operators have [batch, s, heads, d], and are causal or not in a place that moves."""
    backward = "backward" in call.name
    return _attention(call, 1 if backward else 0, -1, backward=backward, heads_at=2)


FORMULAS: Mapping[str, Callable[[Call], Cost | None]] = {
    **{name: _formula(*where) for name, where in _WHERE.items()},
    "flash_attn::_flash_attn_forward": _flash_package,
    "flash_attn::_flash_attn_backward": _flash_package,
}
