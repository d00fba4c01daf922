"""Bytes of one element, by the names that PyTorch writes into traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Names: c10/core/ScalarType.h (github.com/pytorch/pytorch), as `toString` and as C++ type names.
ELEMENT_BYTES: Mapping[str, int] = {
    "byte": 1,
    "char": 1,
    "bool": 1,
    "signed char": 1,
    "unsigned char": 1,
    "int8": 1,
    "uint8": 1,
    "short": 2,
    "short int": 2,
    "half": 2,
    "bfloat16": 2,
    "uint16": 2,
    "int": 4,
    "float": 4,
    "uint32": 4,
    "long": 8,
    "long int": 8,
    "double": 8,
    "uint64": 8,
    "complexhalf": 4,
    "complexfloat": 8,
    "complexdouble": 16,
    "float8_e5m2": 1,
    "float8_e4m3fn": 1,
    "float8_e5m2fnuz": 1,
    "float8_e4m3fnuz": 1,
    "float8_e8m0fnu": 1,
}


def element_bytes(name: str) -> int | None:
    """2 for `BFloat16` and `c10::BFloat16`; None for a name not known here."""
    return ELEMENT_BYTES.get(name.removeprefix("c10::").lower())
