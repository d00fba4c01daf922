"""The ways to seed numpy, each with its seed moved; see `longpole.apply.seed`."""

from __future__ import annotations

from typing import Any

import numpy as np

from longpole.apply.seed import LARGEST_NUMPY_SEED, SameKind, moved, moved_function, unseeded

BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def move_numpy(numpy_random: Any) -> None:
    """Replaces the names of `numpy.random` that take a seed."""
    numpy_random.seed = moved_function(numpy_random.seed, LARGEST_NUMPY_SEED)
    numpy_random.seed(0)
    numpy_random.default_rng = _default_rng(numpy_random.default_rng)
    numpy_random.RandomState = RandomState
    for name in BIT_GENERATORS:
        if hasattr(numpy_random, name):
            setattr(numpy_random, name, _bit_generator(getattr(numpy_random, name)))


def _default_rng(function: Any) -> Any:
    def default_rng(seed: Any = None) -> np.random.Generator:
        return function(unseeded() if seed is None else moved(seed))

    return default_rng


class RandomState(np.random.RandomState, metaclass=SameKind):
    """numpy's older generator; its seed has 32 bits."""

    def __init__(self, seed: Any = None) -> None:
        super().__init__(moved(seed, LARGEST_NUMPY_SEED))

    def seed(self, seed: Any = None) -> None:
        super().seed(moved(seed, LARGEST_NUMPY_SEED))


def _bit_generator(cls: type) -> Any:
    def make(seed: Any = None, *args: Any, **kwargs: Any) -> Any:
        return cls(moved(seed), *args, **kwargs)

    return make
