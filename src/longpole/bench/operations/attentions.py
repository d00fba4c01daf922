"""Fused attention, forward and all gradients together, causal or not, with fewer key heads or not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import scaled_dot_product_attention

from longpole.bench.operations.piece import Piece, Where, relative_error, sample, tolerance
from longpole.cost.attention import causal_pairs

if TYPE_CHECKING:
    from longpole.bench.suites import Size


def attention(size: Size, where: Where) -> list[Piece]:
    """FLOPs count the pairs that the mask leaves; backward makes five products to forward's two."""
    batch, heads, kv_heads, s, t, d = (
        size.number(name) for name in ("batch", "heads", "kv_heads", "seq_q", "seq_kv", "head_dim")
    )
    e = int(found.group(1)) if (found := re.search(r" v (\d+)", size.row["kind"])) else d
    causal = size.row["causal"] == "1"
    q, k, v = where.random(batch, heads, s, d), where.random(batch, kv_heads, t, d), where.random(batch, kv_heads, t, e)
    for tensor in (q, k, v):
        tensor.requires_grad_()
    pairs = batch * heads * (causal_pairs(s, t) if causal else s * t)
    inputs, output = q.numel() + k.numel() + v.numel(), batch * heads * s * e

    def forward() -> torch.Tensor:
        return scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=heads != kv_heads)

    y = forward()
    dy = where.random(*y.shape)
    work = lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True)  # noqa: E731
    allowed = tolerance(where, max(d, t))
    return [
        Piece("forward", forward, lambda: _forward_error(forward(), q, k, v, causal), allowed,
              2.0 * pairs * (d + e), float((inputs + output) * where.bytes_each)),
        Piece("backward", work, lambda: _query_gradient_error(work()[0], dy, (q, k, v), causal), 4 * allowed,
              2.0 * pairs * (3 * d + 2 * e), float((2 * inputs + 2 * output) * where.bytes_each),
              "checked on the gradient of queries"),
    ]  # fmt: skip


def _first_head(
    tensors: tuple[torch.Tensor, ...], causal: bool
) -> tuple[list[int], torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sampled queries of the first head, with their probabilities, keys and values, in float64."""
    q, k, v = (tensor.detach()[0, 0].double() for tensor in tensors)
    rows = list(sample(q.shape[0]))
    scores = q[rows] @ k.t() / q.shape[1] ** 0.5
    if causal:
        positions = torch.tensor(rows, device=q.device)
        scores = scores.masked_fill(torch.arange(k.shape[0], device=q.device) > positions[:, None], float("-inf"))
    return rows, scores.softmax(1), k, v


def _forward_error(y: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> float:
    rows, weights, _, values = _first_head((q, k, v), causal)
    return relative_error(y.detach()[0, 0][rows], weights @ values)


def _query_gradient_error(
    found: torch.Tensor, dy: torch.Tensor, tensors: tuple[torch.Tensor, ...], causal: bool
) -> float:
    """dq = p * (dy v.T - rowsum(dy * y)) k / sqrt(d), a row on its own."""
    rows, weights, keys, values = _first_head(tensors, causal)
    out = dy[0, 0][rows].double()
    down = out @ values.t()
    exact = (weights * (down - (weights * down).sum(1, keepdim=True))) @ keys / keys.shape[1] ** 0.5
    return relative_error(found[0, 0][rows], exact)
