"""What a formula gets (one call of an operator, as traces record it) and what it gives: FLOPs and bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_BYTES = 4  # float32, where the trace does not record types

# Names as Kineto prints them (c10::ScalarType through caffe2::TypeMeta), and torch's own.
BYTES_OF_TYPE = {
    "double": 8, "float64": 8, "float": 4, "float32": 4, "c10::half": 2, "half": 2, "float16": 2,
    "c10::bfloat16": 2, "bfloat16": 2, "long int": 8, "long": 8, "long long": 8, "int64": 8, "int": 4, "int32": 4,
    "short": 2, "short int": 2, "int16": 2, "signed char": 1, "char": 1, "int8": 1, "unsigned char": 1, "uint8": 1,
    "bool": 1, "c10::float8_e4m3fn": 1, "c10::float8_e5m2": 1, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "c10::complex<float>": 8, "c10::complex<double>": 16, "complex64": 8, "complex128": 16,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cost:
    """Work of one call. None is not known.

    `flops` counts a multiply-add as two, and everything a plain implementation does; `bytes_moved` counts
    each input read once and each output written once. `least_flops` and `least_bytes` are what no
    implementation can avoid, where that is less (positions masked by causality, taps that fall on padding,
    inputs that may be one number expanded): bounds use these, so that a bound is one.
    """

    flops: float | None
    bytes_moved: float | None
    least_flops: float | None = None
    least_bytes: float | None = None

    def __add__(self, other: Cost) -> Cost:
        """Both, one after the other; unknown if either is."""
        return Cost(
            _add(self.flops, other.flops),
            _add(self.bytes_moved, other.bytes_moved),
            _add(self.must_compute, other.must_compute),
            _add(self.must_move, other.must_move),
        )

    @property
    def must_compute(self) -> float | None:
        """FLOPs that cannot be avoided."""
        return self.flops if self.least_flops is None else self.least_flops

    @property
    def must_move(self) -> float | None:
        """Bytes that cannot be avoided."""
        return self.bytes_moved if self.least_bytes is None else self.least_bytes


def _add(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the shape of each input as Kineto's "Input Dims" has it, and what else was recorded."""

    name: str
    shapes: Sequence[Any]
    dtypes: Sequence[str] = ()
    concrete: Sequence[Any] = ()
    output: tuple[int, ...] | None = None  # shape of what it made, where that is known from elsewhere

    def shape(self, index: int) -> tuple[int, ...] | None:
        """Dims of a tensor input; () for a number or a tensor of no dims; None where there is none or a list."""
        found = self.shapes[index] if index < len(self.shapes) else None
        return tuple(found) if _is_dims(found) else None

    def elements(self, index: int) -> int | None:
        shape = self.shape(index)
        return None if shape is None else prod(shape)

    def list_elements(self, index: int) -> int | None:
        """Elements of all tensors of a tensor list; None where the trace does not record its shapes."""
        found = self.shapes[index] if index < len(self.shapes) else None
        if not isinstance(found, (list, tuple)) or not found or not all(_is_dims(dims) for dims in found):
            return None
        return sum(prod(dims) for dims in found)

    def is_tensor(self, index: int) -> bool:
        """Whether the input is a tensor of at least one dim (a shape of [] is most often a number)."""
        return bool(self.shape(index))

    def bytes_each(self, index: int) -> int:
        """Bytes of one element of the input."""
        name = self.dtypes[index].lower() if index < len(self.dtypes) else ""
        return BYTES_OF_TYPE.get(name, DEFAULT_BYTES)

    def bytes_of(self, index: int) -> int:
        """Bytes of a tensor input, 0 where there is none."""
        return (self.elements(index) or 0) * self.bytes_each(index) if self.is_tensor(index) else 0

    def value(self, index: int) -> Any:
        """The recorded number, flag or list of an input, or None; chrome traces have them as text."""
        found = self.concrete[index] if index < len(self.concrete) else None
        if not isinstance(found, str):
            return found
        try:
            return json.loads(found.replace("True", "true").replace("False", "false"))
        except ValueError:
            return None

    def numbers(self, index: int, count: int) -> tuple[int, ...] | None:
        """A recorded list of `count` integers; one integer counts for every dim."""
        found = self.value(index)
        if isinstance(found, int) and not isinstance(found, bool):
            return (found,) * count
        if not isinstance(found, list) or not all(isinstance(number, int) for number in found):
            return None
        return tuple(found) * count if len(found) == 1 else tuple(found) if len(found) == count else None


def _is_dims(found: Any) -> TypeGuard[Sequence[int]]:
    return isinstance(found, (list, tuple)) and all(isinstance(size, int) and size >= 0 for size in found)


def broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape that elementwise inputs have together, or None where they do not fit."""
    result: list[int] = []
    for position in range(1, max(map(len, shapes), default=0) + 1):
        sizes = {shape[-position] for shape in shapes if len(shape) >= position} - {1}
        if len(sizes) > 1:
            return None
        result.append(sizes.pop() if sizes else 1)
    return tuple(reversed(result))
