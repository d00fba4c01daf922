"""Another seed for a script, without an edit: what it draws, and what it seeds itself.

Every seed that the script gives, to torch, numpy or random, is moved by the same number. Names are looked up when
they are called, so what others seed for the script (`transformers.set_seed`, Lightning's `seed_everything`) moves,
too. A function that a script took by `from numpy.random import default_rng` before it imported torch stays as it is.
"""

from __future__ import annotations

import functools
import itertools
import operator
import random
import sys
from typing import TYPE_CHECKING, Any

import torch

from longpole.capture.imports import ImportWatch

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST_NUMPY_SEED = 2**32  # numpy.random.seed takes 32 bits
LARGEST_TORCH_SEED = 2**63

_by = 0  # what seeds are moved by; in a process of its own, once
_inside = False  # a function that seeds others must not move their seeds again
_unseeded = itertools.count()


def set_seed(seed: int) -> None:
    """Seeds torch, random and numpy, and moves every seed that the script sets by `seed`.

    A script that calls `torch.manual_seed(1337)` would train the same way each time; with seed 0 it still does.
    """
    global _by  # noqa: PLW0603 - classes that torch and numpy make objects of have no other way to know it
    _by = seed
    for owner, name in _torch_functions():
        setattr(owner, name, _moved(getattr(owner, name), LARGEST_TORCH_SEED))
    torch.Generator = Generator
    random.seed = _moved(random.seed, None)
    random.Random = Random
    torch.manual_seed(0)
    random.seed(0)
    ImportWatch("numpy", _numpy_is_there).start()


def _torch_functions() -> list[tuple[Any, str]]:
    found: list[tuple[Any, str]] = [(torch, "manual_seed"), (torch.random, "manual_seed")]
    for device in (torch.cuda, torch.xpu, torch.mps):
        found += [(device, name) for name in ("manual_seed", "manual_seed_all") if hasattr(device, name)]
    return found


def _numpy_is_there() -> None:
    from longpole.apply.numpy_seed import move_numpy

    move_numpy(sys.modules["numpy"].random)


def moved(value: Any, below: int | None = None) -> Any:
    """Another seed of the same kind. None, and what is no seed, stays; so does every seed where it moves by 0."""
    if value is None or not _by:
        return value
    if isinstance(value, (str, bytes, bytearray)):
        return f"{value!r} moved by {_by}"
    try:
        number = operator.index(value) + _by
    except TypeError:
        return [*value, _by] if isinstance(value, (list, tuple)) else value
    return number if below is None else number % below


def unseeded() -> list[int]:
    """Entropy for a generator that the script makes without a seed: another one each, the same in each run."""
    return [_by, next(_unseeded)]


def _moved(function: Callable[..., Any], below: int | None) -> Callable[..., Any]:
    @functools.wraps(function)
    def longpole_seeded(*args: Any, **kwargs: Any) -> Any:
        global _inside  # noqa: PLW0603
        if _inside:
            return function(*args, **kwargs)
        _inside = True
        try:
            if args:
                return function(moved(args[0], below), *args[1:], **kwargs)
            return function(**{name: moved(value, below) for name, value in kwargs.items()})
        finally:
            _inside = False

    return longpole_seeded


def moved_function(function: Callable[..., Any], below: int | None) -> Callable[..., Any]:
    """The function, its first argument being a seed that is moved."""
    return _moved(function, below)


class SameKind(type):
    """Objects that were made before count as instances of a class that took another's place, as they did."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1])


class Random(random.Random, metaclass=SameKind):
    """A generator whose integer seeds are moved; one without a seed stays as random as it is."""

    def seed(self, a: Any = None, version: int = 2) -> None:
        super().seed(moved(a), version)


_kind_of_generators: Any = type(torch.Generator)  # plain `type`, or in newer torch a class of its own


class SameKindOfGenerator(SameKind, _kind_of_generators):
    """Both."""


class Generator(torch.Generator, metaclass=SameKindOfGenerator):
    """A generator whose seeds are moved."""

    def manual_seed(self, seed: int) -> torch.Generator:
        super().manual_seed(moved(seed, LARGEST_TORCH_SEED))
        return self
