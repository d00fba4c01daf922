"""Matrix products: DeepBench's column-major m, n, k as torch issues them, linear layers, grouped, sparse.

C[m, n] = op(A)[m, k] op(B)[k, n] in columns is C.T[n, m] = op(B).T[n, k] op(A).T[k, m] in rows: m counts output
features, n tokens, k what is summed. A not transposed (m x k in columns) is a row-major [k, m]; transposed, it is
a weight [m, k] as `nn.Linear` keeps it, used through its transpose.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from longpole.bench.operations.piece import (
    Piece,
    UnsupportedSizeError,
    Where,
    product_tolerance,
    relative_error,
    sample,
)
from longpole.bench.suites import Size, group_rows

if TYPE_CHECKING:
    from collections.abc import Callable

_SUMMED = "int8 times int8, summed in 32 bits; rates count integer operations"


def gemm(size: Size, where: Where) -> list[Piece]:
    """One product, or a batch of them."""
    m, n, k = (size.number(name) for name in "mnk")
    batch = int(size.row.get("batch_count", "1"))
    left = _operand(where, batch, n, k, transposed=size.row["b_t"] == "1")
    right = _operand(where, batch, k, m, transposed=size.row["a_t"] == "1")
    if batch == 1:
        left, right = left[0], right[0]
    if where.dtype == torch.int8:
        return [_int8_product("forward", left, right)]
    out = torch.empty(*left.shape[:-1], m, dtype=where.dtype, device=where.device)
    moved = batch * (n * k + k * m + n * m) * where.bytes_each
    work = lambda: torch.matmul(left, right, out=out)  # noqa: E731
    error = lambda: _product_error(work(), left, right)  # noqa: E731
    return [Piece("forward", work, error, product_tolerance(where, k), 2.0 * batch * m * n * k, float(moved))]


def _operand(where: Where, batch: int, rows: int, columns: int, *, transposed: bool) -> torch.Tensor:
    if transposed:
        return where.random(batch, columns, rows).transpose(1, 2)
    return where.random(batch, rows, columns)


def _product_error(out: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> float:
    """Over sampled rows and columns (of the first and last of a batch)."""
    if out.dim() == 3:
        ends = {0, out.shape[0] - 1}
        return max(_product_error(out[index], left[index], right[index]) for index in ends)
    rows, columns = list(sample(out.shape[0])), list(sample(out.shape[1]))
    exact = left[rows].double() @ right[:, columns].double()
    return relative_error(out[rows][:, columns], exact)


def _int8_product(direction: str, left: torch.Tensor, right: torch.Tensor) -> Piece:
    """int8 times int8, summed in 32 bits: nothing is rounded, so the result must be equal to the last bit."""
    if left.dim() != 2:
        raise UnsupportedSizeError("torch has no batched product of int8")
    (n, k), m = left.shape, right.shape[1]
    out = torch.empty(n, m, dtype=torch.int32, device=left.device)
    work = lambda: torch.ops.aten._int_mm.out(left, right, out=out)  # noqa: E731
    error = lambda: _integer_error(work(), left, right)  # noqa: E731
    return Piece(direction, work, error, 0.0, 2.0 * m * n * k, float(n * k + k * m + 4 * n * m), _SUMMED)


def _integer_error(out: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> float:
    """Over sampled rows and columns, against 64-bit integers."""
    rows, columns = list(sample(out.shape[0])), list(sample(out.shape[1]))
    exact = left[rows].cpu().long() @ right[:, columns].cpu().long()
    return relative_error(out[rows][:, columns].cpu().double(), exact.double())


def linear(size: Size, where: Where) -> list[Piece]:
    """A layer x[tokens, inputs] -> y[tokens, outputs] and both its gradients, as autograd issues them."""
    tokens, inputs, outputs = (size.number(name) for name in ("tokens", "inputs", "outputs"))
    x, w = where.random(tokens, inputs), where.random(outputs, inputs)
    if where.dtype == torch.int8:
        return [_int8_product("forward", x, w.t())]  # gradients are not of this type
    dy = where.random(tokens, outputs)
    triples = (("forward", x, w.t(), inputs), ("input_grad", dy, w, outputs), ("weight_grad", dy.t(), x, tokens))
    flops = 2.0 * tokens * inputs * outputs
    moved = float((tokens * inputs + inputs * outputs + tokens * outputs) * where.bytes_each)
    return [
        Piece(name, lambda a=a, b=b: torch.mm(a, b), lambda a=a, b=b: _product_error(torch.mm(a, b), a, b),
              product_tolerance(where, terms), flops, moved)
        for name, a, b, terms in triples
    ]  # fmt: skip


def grouped_gemm(size: Size, where: Where) -> list[Piece]:
    """Rows of each group times that group's matrix: one batched product where groups are equal, else one each."""
    m, k, rows = size.number("m"), size.number("k"), group_rows(size)
    weights = where.random(len(rows), k, m)
    flops, moved = size.flops, (sum(rows) * (k + m) + len(rows) * k * m) * where.bytes_each
    if len(set(rows)) == 1:
        x = where.random(len(rows), rows[0], k)
        work: Callable[[], object] = lambda: torch.bmm(x, weights)  # noqa: E731
        error = lambda: _product_error(torch.bmm(x, weights), x, weights)  # noqa: E731
        return [Piece("forward", work, error, product_tolerance(where, k), flops, float(moved), "one batched product")]
    parts = list(torch.split(where.random(sum(rows), k), rows))
    work = lambda: [torch.mm(part, weight) for part, weight in zip(parts, weights, strict=True)]  # noqa: E731
    error = lambda: _product_error(torch.mm(parts[0], weights[0]), parts[0], weights[0])  # noqa: E731
    return [Piece("forward", work, error, product_tolerance(where, k), flops, float(moved), "one product a group")]


def sparse_gemm(size: Size, where: Where) -> list[Piece]:
    """A sparse weight times dense activations, and the dense product beside it. Rates count the dense work."""
    m, n, k = int(size.row.get("m_intended") or size.row["m"]), size.number("n"), size.number("k")
    sparsity = float(size.row["sparsity"])
    dense = where.random(m, k)
    keep = torch.rand(m, k, generator=torch.Generator().manual_seed(where.seed)) >= sparsity
    dense = dense * keep.to(where.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its CSR a beta, on every first use
        matrix, x = dense.to_sparse_csr(), where.random(k, n)
    stored = int(matrix.values().numel())
    flops, allowed = 2.0 * m * n * k, product_tolerance(where, k)
    moved = (k * n + m * n) * where.bytes_each
    sparse_bytes = moved + stored * (where.bytes_each + 8) + 8 * (m + 1)
    return [
        Piece("sparse", lambda: matrix @ x, lambda: _product_error(matrix @ x, dense, x), allowed, flops,
              float(sparse_bytes), f"torch CSR, {stored / m / k:.1%} kept; the rate counts {stored / m / k:.1%} of it"),
        Piece("dense", lambda: dense @ x, lambda: _product_error(dense @ x, dense, x), allowed, flops,
              float(moved + m * k * where.bytes_each)),
    ]  # fmt: skip
