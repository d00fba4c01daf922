"""Another seed for a script, without an edit: what it draws, and what it seeds itself."""

from __future__ import annotations

import random
import sys

import torch


def set_seed(seed: int) -> None:
    """Seeds torch and random, and numpy where it is imported, and moves every seed that the script sets by `seed`.

    A script that calls `torch.manual_seed(1337)` would train the same way each time; with seed 0 it still does.
    """
    _shift(torch, "manual_seed", seed)
    _shift(random, "seed", seed)
    torch.manual_seed(0)
    random.seed(0)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        _shift(numpy.random, "seed", seed)
        numpy.random.seed(0)


def _shift(owner: object, name: str, by: int) -> None:
    before = getattr(owner, name)

    def shifted(value: object = None, *args: object, **kwargs: object) -> object:
        return before(value + by if isinstance(value, int) else by, *args, **kwargs)

    setattr(owner, name, shifted)
