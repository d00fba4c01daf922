"""Convolutions: forward, input gradient and weight gradient, each alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from longpole.bench.operations.piece import Piece, Where, product_tolerance, relative_error, sample
from longpole.bench.suites import Size, conv_output

if TYPE_CHECKING:
    from collections.abc import Callable

_CHANNELS = 4  # checked of each result


def conv(size: Size, where: Where) -> list[Piece]:
    """Three pieces; forward alone for suites of inference."""
    n, c, h, w, k = (size.number(name) for name in ("n", "c", "h", "w", "k"))
    groups = int(size.row.get("groups", "1"))
    stride = (size.number("stride_h"), size.number("stride_w"))
    padding = (size.number("pad_h"), size.number("pad_w"))
    x = where.random(n, c, h, w)
    weight = where.random(k, c // groups, size.number("filter_h"), size.number("filter_w"))
    dy = where.random(n, k, *conv_output(size))
    moved = float((x.numel() + weight.numel() + dy.numel()) * where.bytes_each)
    terms = weight[0].numel()
    common: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups}

    def forward() -> torch.Tensor:
        return torch.conv2d(x, weight, **common)

    pieces = [
        Piece("forward", forward, lambda: _forward_error(forward(), x, weight, common), product_tolerance(where, terms),
              size.flops, moved)
    ]  # fmt: skip
    if "inference" in size.suite:
        return pieces
    for index, name in ((0, "input_grad"), (1, "weight_grad")):
        work = _gradient(dy, x, weight, common, index)
        count = terms * k // c if index == 0 else n * dy.shape[2] * dy.shape[3]
        error = lambda work=work, index=index: _gradient_error(work(), dy, x, weight, common, index)  # noqa: E731
        pieces.append(Piece(name, work, error, product_tolerance(where, max(1, count)), size.flops, moved))
    return pieces


def _gradient(
    dy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, common: dict[str, Any], index: int
) -> Callable[[], torch.Tensor]:
    mask = [index == 0, index == 1, False]

    def work() -> torch.Tensor:
        return torch.ops.aten.convolution_backward(
            dy, x, weight, None, common["stride"], common["padding"], (1, 1), False, (0, 0), common["groups"], mask
        )[index]

    return work


def _forward_error(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, common: dict[str, Any]) -> float:
    images = list(sample(x.shape[0], 2))
    if common["groups"] != 1:
        exact = torch.conv2d(x[images].double(), weight.double(), **common)
        return relative_error(out[images], exact)
    filters = list(sample(weight.shape[0], _CHANNELS))
    exact = torch.conv2d(x[images].double(), weight[filters].double(), **common)
    return relative_error(out[images][:, filters], exact)


def _gradient_error(
    found: torch.Tensor, dy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, common: dict[str, Any], index: int
) -> float:
    """On two images for the input's; on a few filters, over all images, for the weight's."""
    ungrouped = common["groups"] == 1
    if index == 0:
        images = list(sample(x.shape[0], 2))
        channels = list(sample(x.shape[1], _CHANNELS)) if ungrouped else list(range(x.shape[1]))
        part = weight[:, channels] if ungrouped else weight
        args = (dy[images].double(), x[images][:, channels].double(), part.double())
        exact = _gradient(*args, common, 0)()
        return relative_error(found[images][:, channels], exact)
    filters = list(sample(weight.shape[0], _CHANNELS)) if ungrouped else list(range(weight.shape[0]))
    exact = _gradient(dy[:, filters].double(), x.double(), weight[filters].double(), common, 1)()
    return relative_error(found[filters], exact)
