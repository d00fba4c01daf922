"""Changes applied to a script that is about to run, each in a file of its own. Called when torch is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.apply.batch_size import change_batch_size
from longpole.apply.checkpoint import checkpoint_layers
from longpole.apply.freeze import freeze_layers
from longpole.apply.init import start_from
from longpole.apply.seed import set_seed
from longpole.apply.threads import set_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.whatif.changes import Changes


def apply(changes: Changes) -> list[Callable[[], str | None]]:
    """Each change that is asked for. Raises LongpoleError where one cannot be made.

    Whether some could be made shows only when the script has trained. These are to be asked then: each answers in
    one line why its change was not made, or None.
    """
    later: list[Callable[[], str | None]] = []
    if changes.threads is not None:
        set_threads(changes.threads)
    if changes.seed is not None:
        set_seed(changes.seed)
    if changes.batch_size is not None:
        later.append(change_batch_size(changes.batch_size).unmet)
    if changes.checkpoint:
        later.append(checkpoint_layers(changes.checkpoint).unmet)
    if changes.init is not None:
        later.append(start_from(changes.init).unmet)
    if changes.freeze is not None:
        later.append(freeze_layers(changes.freeze).unmet)
    return later
