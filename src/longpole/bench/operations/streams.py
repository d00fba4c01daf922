"""Operations whose time is memory: normalization, softmax and losses, embeddings, elementwise, optimizers.

Each is checked by doing the same in float64, on all of it where that is small and else on rows or channels.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from longpole.bench.operations.piece import Piece, UnsupportedSizeError, Where, relative_error, tolerance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.bench.suites import Size

_CHECKED_ELEMENTS = 2**22


def _both(
    function: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor], where: Where,
    moved: tuple[float, float], terms: int, part: Callable[[Sequence[torch.Tensor]], list[torch.Tensor]],
) -> list[Piece]:  # fmt: skip
    """Forward and backward of a function; `part` takes from the inputs what is checked, on its own meaningful."""
    for tensor in inputs:
        tensor.requires_grad_(tensor.is_floating_point())
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    y = function(*inputs)
    dy = where.random(*y.shape) if y.dim() else torch.ones_like(y)
    allowed = tolerance(where, terms)

    def error(index: int) -> float:
        few = part(inputs)
        return _compare(function, few, where)[index]

    return [
        Piece("forward", lambda: function(*inputs), lambda: error(0), allowed, None, moved[0]),
        Piece("backward", lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True), lambda: error(1),
              4 * allowed, None, moved[1]),
    ]  # fmt: skip


def _compare(function: Callable[..., torch.Tensor], few: Sequence[torch.Tensor], where: Where) -> tuple[float, float]:
    """Errors of the result and of the largest gradient, this type against float64, on the same numbers."""
    pairs: list[tuple[torch.Tensor, tuple[torch.Tensor, ...]]] = []
    for exact in (False, True):
        inputs = [t.detach().double() if exact and t.is_floating_point() else t.detach().clone() for t in few]
        wanted = [tensor.requires_grad_() for tensor in inputs if tensor.is_floating_point()]
        y = function(*inputs)
        generator = torch.Generator().manual_seed(3)
        dy = torch.randn(y.shape, generator=generator).to(where.dtype).to(device=y.device, dtype=y.dtype)
        pairs.append((y.detach(), torch.autograd.grad(y, wanted, dy)))
    (found, gradients), (truth, exact_gradients) = pairs
    errors = [relative_error(f, e) for f, e in zip(gradients, exact_gradients, strict=True)]
    return relative_error(found, truth.double()), max(errors)


def _rows(count: int) -> Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]:
    """The first inputs' leading rows; parameters whole."""
    return lambda inputs: [inputs[0].detach()[:count], *(tensor.detach() for tensor in inputs[1:])]


def norm(size: Size, where: Where) -> list[Piece]:
    """Layer, RMS, batch (in training) and group normalization."""
    rows, dim, kind = size.number("rows"), size.number("dim"), size.row["kind"]
    weight, bias = where.random(dim), where.random(dim)
    few = _rows(max(1, _CHECKED_ELEMENTS // dim))
    each = rows * dim * where.bytes_each
    moved = (2.0 * each, 3.0 * each)
    if kind.startswith(("layernorm", "rmsnorm")):
        inputs = [where.random(rows, dim), weight] + ([bias] if kind.startswith("layer") else [])
        layer = lambda x, w, b=None: functional.layer_norm(x, (dim,), w, b)  # noqa: E731
        rms = lambda x, w: functional.rms_norm(x, (dim,), w)  # noqa: E731
        return _both(layer if kind.startswith("layer") else rms, inputs, where, moved, dim, few)
    shape = _image_shape(size, rows, dim)
    x = where.random(*shape)
    if kind.startswith("batchnorm"):
        channels = lambda all_: [all_[0].detach()[:, :4], *(t.detach()[:4] for t in all_[1:])]  # noqa: E731
        batch = lambda x, w, b: functional.batch_norm(x, None, None, w, b, training=True)  # noqa: E731
        return _both(batch, [x, weight, bias], where, moved, rows, channels)
    if kind.startswith("groupnorm"):
        group = lambda x, w, b: functional.group_norm(x, 32, w, b)  # noqa: E731
        return _both(group, [x, weight, bias], where, moved, x.numel() // shape[0] // 32, _rows(1))
    raise UnsupportedSizeError(f"no normalization called {kind}")


def _image_shape(size: Size, rows: int, dim: int) -> tuple[int, int, int, int]:
    """From "N32 C64 56x56": batch, channels, height, width."""
    found = re.search(r"N(\d+).*?(\d+)x(\d+)", size.row["layout"])
    if found is None or rows % int(found.group(1)):
        raise UnsupportedSizeError(f"the layout {size.row['layout']!r} names no batch and image")
    batch, height, width = (int(number) for number in found.groups())
    return batch, dim, height, width


def softmax_loss(size: Size, where: Where) -> list[Piece]:
    """Cross entropy or plain softmax over rows of classes, forward and backward."""
    rows, classes, kind = size.number("rows"), size.number("classes"), size.row["kind"]
    each = float(rows * classes * where.bytes_each)
    few = _rows(max(1, _CHECKED_ELEMENTS // classes))
    if kind.startswith("softmax"):
        softmax = lambda x: functional.softmax(x, -1)  # noqa: E731
        return _both(softmax, [where.random(rows, classes)], where, (2 * each, 3 * each), classes, few)
    labels = where.integers(classes, rows)
    entropy = lambda x, labels: functional.cross_entropy(x, labels[: len(x)])  # noqa: E731
    if kind.startswith("fused"):
        hidden = int(re.findall(r"\d+", size.row["dtype"])[-1])
        inputs = [where.random(rows, hidden), where.random(classes, hidden, scale=hidden**-0.5), labels]
        both = lambda x, w, labels: entropy(x @ w.t(), labels)  # noqa: E731
        pieces = _both(both, inputs, where, (2 * each, 3 * each), hidden, _rows(8))
        return [_noted(piece, "a product, then the loss: torch has no fused one") for piece in pieces]
    return _both(entropy, [where.random(rows, classes), labels], where, (each, 2 * each), classes, few)


def _noted(piece: Piece, note: str) -> Piece:
    return Piece(piece.direction, piece.work, piece.error, piece.tolerance, piece.flops, piece.bytes_moved, note)


def embedding(size: Size, where: Where) -> list[Piece]:
    """Lookup of single rows, or sums over bags of them; backward to a dense table."""
    count, dim, indices = size.number("num_rows"), size.number("dim"), size.number("num_indices")
    table, which = where.random(count, dim), where.integers(count, indices)
    pooled = max(1, int(float(size.row["pooling_factor"])))
    read = float(indices * dim * where.bytes_each)
    bags = indices // pooled

    def single(table: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        return functional.embedding(which % len(table), table)

    def summed(table: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        whole = (which % len(table))[: len(which) // pooled * pooled]
        return functional.embedding_bag(whole.view(-1, pooled), table, mode="sum")

    look_up, moved = single, (2 * read, read + table.numel() * where.bytes_each)
    if size.row["mode"] != "none":
        written = bags * dim * where.bytes_each
        look_up, moved = summed, (read + written, written + table.numel() * where.bytes_each)
    few = lambda all_: [all_[0].detach()[:10_000], all_[1][: 512 * pooled]]  # noqa: E731
    which = which % count
    return _both(look_up, [table, which], where, moved, pooled, few)


def elementwise(size: Size, where: Where) -> list[Piece]:
    """Activations, sums, dropout, rotary positions, pooling, copies: forward and backward where there is one."""
    kind, count = size.row["kind"], size.number("elements")
    for start, builder in _ELEMENTWISE:
        if kind.startswith(start):
            return builder(kind, count, where)
    raise UnsupportedSizeError(f"{kind}: no device here to copy to" if "H2D" in kind else f"no operation called {kind}")


def _activation(kind: str, count: int, where: Where) -> list[Piece]:
    each = float(count * where.bytes_each)
    function = torch.relu if kind == "relu" else functional.gelu
    return _both(function, [where.random(count)], where, (2 * each, 3 * each), 1, _rows(2**16))


def _residual(kind: str, count: int, where: Where) -> list[Piece]:  # noqa: ARG001
    return _plain(
        "forward", torch.add, [where.random(count), where.random(count)], where, 3.0 * count * where.bytes_each
    )


def _bias(kind: str, count: int, where: Where) -> list[Piece]:  # noqa: ARG001
    width = next(size for size in (4096, 3072, 1024, 768, 64, 16, 1) if count % size == 0)
    inputs = [where.random(count // width, width), where.random(width)]
    return _plain("forward", torch.add, inputs, where, 2.0 * count * where.bytes_each)


def _swiglu(kind: str, count: int, where: Where) -> list[Piece]:  # noqa: ARG001
    def gated(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return functional.silu(a) * b

    def few(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [tensor.detach()[: 2**16] for tensor in inputs]

    each = float(count * where.bytes_each)
    return _both(gated, [where.random(count), where.random(count)], where, (3 * each, 5 * each), 1, few)


def _rotary(kind: str, count: int, where: Where) -> list[Piece]:  # noqa: ARG001
    inputs = [where.random(count // 128, 128), where.random(1, 64)]
    return _plain("forward", _rope, inputs, where, 2.0 * count * where.bytes_each)


def _plain(
    name: str, function: Callable[..., torch.Tensor], inputs: list[torch.Tensor], where: Where, moved: float
) -> list[Piece]:
    def error() -> float:
        exact = function(*(tensor[:4096].double() for tensor in inputs))
        return relative_error(function(*(tensor[:4096] for tensor in inputs)), exact)

    return [Piece(name, lambda: function(*inputs), error, tolerance(where, 4), None, moved)]


def _rope(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Pairs of numbers turned by their angles."""
    a, b = x.chunk(2, -1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat((a * cosine - b * sine, a * sine + b * cosine), -1)


def _dropout(kind: str, count: int, where: Where) -> list[Piece]:  # noqa: ARG001
    x, each = where.random(count), float(count * where.bytes_each)

    def error() -> float:
        """What is kept is scaled by 1 / 0.9; the share kept is 0.9 within six standard deviations."""
        y = functional.dropout(x, 0.1)
        kept = y != 0
        spread = 6 * (0.09 / x.numel()) ** 0.5
        share_is_right = abs(float(kept.float().mean()) - 0.9) < spread + float((x == 0).float().mean())
        return relative_error(y[kept][:4096], x[kept][:4096].double() / 0.9) if share_is_right else float("inf")

    return [Piece("forward", lambda: functional.dropout(x, 0.1), error, tolerance(where, 4), None, 2 * each)]


def _memory(kind: str, count: int, where: Where) -> list[Piece]:
    a, b, c = where.random(count), where.random(count), where.random(count)
    size = float(count * where.bytes_each)
    if "copy" in kind:
        return [Piece("forward", lambda: a.copy_(b), lambda: relative_error(a.copy_(b)[:4096], b[:4096].double()), 0.0,
                      0.0, 2 * size)]  # fmt: skip
    work = lambda: torch.add(b, c, alpha=2.0, out=a)  # noqa: E731
    error = lambda: relative_error(work()[:4096], b[:4096].double() + 2 * c[:4096].double())  # noqa: E731
    return [Piece("forward", work, error, tolerance(where, 2), 2.0 * count, 3 * size)]


def _pooling(kind: str, count: int, where: Where) -> list[Piece]:
    side = 112 if kind.startswith("max") else 7
    x = where.random(max(1, count // (64 * side * side)), 64, side, side)
    each = float(x.numel() * where.bytes_each)
    largest = lambda x: functional.max_pool2d(x, 3, 2, 1)  # noqa: E731
    average = lambda x: functional.adaptive_avg_pool2d(x, 1)  # noqa: E731
    return _both(largest if kind.startswith("max") else average, [x], where, (1.5 * each, 2 * each), side, _rows(1))


_ELEMENTWISE: tuple[tuple[str, Callable[[str, int, Where], list[Piece]]], ...] = (
    ("gelu", _activation),
    ("relu", _activation),
    ("residual_add", _residual),
    ("bias_add", _bias),
    ("swiglu", _swiglu),
    ("dropout", _dropout),
    ("rope", _rotary),
    ("stream", _memory),
    ("maxpool", _pooling),
    ("adaptive", _pooling),
)


def optimizer(size: Size, where: Where) -> list[Piece]:
    """One update of so many parameters in so many tensors: loop, foreach, fused."""
    count, tensors, kind = size.number("n_params"), size.number("n_tensors"), size.row["optimizer"]
    moved = float(size.row["min_bytes_moved"]) * where.bytes_each / 4
    parameters = [torch.nn.Parameter(where.random(max(1, count // tensors))) for _ in range(tensors)]
    for parameter in parameters:
        parameter.grad = where.random(*parameter.shape)
    if kind == "clip_grad_norm":
        return [
            Piece(name, lambda each=each: torch.nn.utils.clip_grad_norm_(parameters, 1e9, foreach=each),
                  lambda each=each: _norm_error(parameters, each), tolerance(where, count) * 4, None, moved)
            for name, each in (("for-loop", False), ("foreach", True))
        ]  # fmt: skip
    if kind == "zero_grad":
        work = lambda: [parameter.grad.zero_() for parameter in parameters if parameter.grad is not None]  # noqa: E731
        error = lambda: float(work()[0].abs().sum())  # noqa: E731
        return [Piece("for-loop", work, error, 0.0, None, moved)]
    variants: tuple[tuple[str, dict[str, Any]], ...] = (
        ("for-loop", {"foreach": False}), ("foreach", {"foreach": True}), ("fused", {"fused": True}),
    )  # fmt: skip
    return [_update(kind, name, options, parameters, where, moved) for name, options in variants]


def _norm_error(parameters: list[torch.nn.Parameter], foreach: bool) -> float:
    found = torch.nn.utils.clip_grad_norm_(parameters, 1e9, foreach=foreach)
    exact = sum(float(p.grad.double().square().sum()) for p in parameters if p.grad is not None) ** 0.5
    return abs(float(found) - exact) / exact


def _make(kind: str, parameters: list[Any], options: dict[str, Any]) -> torch.optim.Optimizer:
    if kind.startswith("SGD"):
        return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, **options)
    return torch.optim.AdamW(parameters, lr=1e-3, **options)


def _update(
    kind: str, name: str, options: dict[str, Any], parameters: list[torch.nn.Parameter], where: Where, moved: float
) -> Piece:
    maker = _make(kind, parameters, options)

    def error() -> float:
        """Three updates of the first tensor, against the plain loop in float64."""
        results: list[torch.Tensor] = []
        for exact in (False, True):
            start = parameters[0].detach()
            own = torch.nn.Parameter(start.double() if exact else start.clone())
            own.grad = (parameters[0].grad if parameters[0].grad is not None else start).to(own.dtype)
            one = _make(kind, [own], {"foreach": False} if exact else options)
            for _ in range(3):
                one.step()
            results.append(own.detach())
        return relative_error(results[0], results[1].double())

    return Piece(name, maker.step, error, tolerance(where, 16), None, moved)
