"""What may be changed about a script from outside, and how that is told to the process that runs it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

VARIABLE = "LONGPOLE_CHANGES"


class Changes(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Each field is one change; its default leaves the script as it is."""

    seed: int | None = None  # of torch, numpy and random, set as soon as torch is there
    threads: int | None = None  # that torch computes with
    batch_size: int | None = None  # of every DataLoader that shuffles or samples for training
    checkpoint: tuple[str, ...] = ()  # layers whose outputs are computed again in backward instead of kept
    freeze: int | None = None  # so many of the first layers with parameters do not learn
    init: str | None = None  # a file of weights that the model starts from

    @property
    def are_any(self) -> bool:
        return self != Changes()


def tell(changes: Changes, environment: MutableMapping[str, str]) -> None:
    """Puts the changes where `told` finds them in a child process."""
    if changes.are_any:
        environment[VARIABLE] = msgspec.json.encode(changes).decode()
    else:
        environment.pop(VARIABLE, None)


def told() -> Changes:
    """The changes that this process was asked to apply. Raises LongpoleError where they cannot be read."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return Changes()
    try:
        return msgspec.json.decode(text, type=Changes)
    except msgspec.MsgspecError as error:
        raise LongpoleError(f"{VARIABLE} cannot be read ({error}); unset it, longpole sets it itself") from error
