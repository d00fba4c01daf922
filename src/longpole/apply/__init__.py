"""Changes applied to a script that is about to run, each in a file of its own. Called when torch is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.apply.seed import set_seed
from longpole.apply.threads import set_threads

if TYPE_CHECKING:
    from longpole.whatif.changes import Changes


def apply(changes: Changes) -> None:
    """Each change that is asked for. Raises LongpoleError where one cannot be made."""
    if changes.threads is not None:
        set_threads(changes.threads)
    if changes.seed is not None:
        set_seed(changes.seed)
