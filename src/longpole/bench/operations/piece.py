"""What a builder makes of a size: pieces of work to time, each with a check against float64."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DTYPES = {
    "fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32,
    "int8": torch.int8,
}  # fmt: skip
CHECKED_ROWS = 48  # of a large result: a sample is compared, since all of it in float64 would take longer than the work
_MOST_ROUNDING = 0.5


class UnsupportedSizeError(Exception):
    """A size that this device or torch cannot do; the message is the reason reported."""


@dataclass(frozen=True, slots=True)
class Where:
    """Type and device of the data."""

    dtype_name: str
    device: str
    seed: int = 0
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        self.generator.manual_seed(self.seed)

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.dtype_name]

    @property
    def bytes_each(self) -> int:
        return self.dtype.itemsize

    @property
    def epsilon(self) -> float:
        """Distance of 1 from the next number; tf32 has ten bits of mantissa."""
        return 2.0**-10 if self.dtype_name == "tf32" else torch.finfo(self.dtype).eps

    def random(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        """Fresh normal numbers of the real type, the same for the same seed and order of calls.

        Of int8 all 256 numbers alike: the largest products there are, and sums of both signs.
        """
        if self.dtype == torch.int8:
            return torch.randint(-128, 128, shape, dtype=torch.int8, generator=self.generator).to(self.device)
        if self.device == "cpu":
            return torch.randn(shape, generator=self.generator).mul_(scale).to(self.dtype)
        return torch.randn(shape, device=self.device).mul_(scale).to(self.dtype)

    def integers(self, high: int, count: int) -> torch.Tensor:
        return torch.randint(0, high, (count,), generator=self.generator).to(self.device)


@dataclass(frozen=True, slots=True)
class Piece:
    """One direction of one size."""

    direction: str  # forward, input_grad, weight_grad, backward, step, ...
    work: Callable[[], object]
    error: Callable[[], float]  # relative to float64, by Frobenius norm, over what is sampled
    tolerance: float
    flops: float | None
    bytes_moved: float | None
    note: str = ""


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """|found - exact| / |exact| in float64; infinite where anything is not finite that should be."""
    norm = float(exact.norm())
    difference = float((found.double() - exact).norm())
    if math.isnan(difference):
        return float("inf")
    return difference / norm if norm > 0 else difference


def tolerance(where: Where, terms: int, products: int = 1) -> float:
    """What sums of `terms` rounded products may differ by.

    Independent roundings grow with the root of their number (Higham, Accuracy and Stability of Numerical
    Algorithms, 2.8); the constant allows for inputs and result being rounded too. Half of the result's norm is more
    than any rounding explains.
    """
    return min(_MOST_ROUNDING, where.epsilon * (4.0 + terms**0.5) * products)


def product_tolerance(where: Where, terms: int) -> float:
    """The same of a product of matrices or a convolution, which sum types of 16 bits in 32 and round what they write.

    Other sums of such types may be rounded as they go: torch's gradients of a layer normalization's weights are.
    """
    if where.dtype_name in {"bf16", "fp16"}:
        return 8.0 * where.epsilon + torch.finfo(torch.float32).eps * terms**0.5
    return tolerance(where, terms)


def sample(count: int, most: int = CHECKED_ROWS) -> Sequence[int]:
    """Positions spread over 0 .. count - 1, ends included."""
    if count <= most:
        return range(count)
    return [round(position * (count - 1) / (most - 1)) for position in range(most)]
