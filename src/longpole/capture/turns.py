"""Finds the turns of the training loop in the order in which optimizers step. Pure logic."""

from __future__ import annotations

PATIENCE = 16  # steps of one optimizer while another that used to step does not: then that one is over


class TurnFinder:
    """A turn is over when every optimizer of the loop has stepped in it.

    The discriminator and the generator of a GAN are one turn, five critic steps and one generator step
    are one turn, and an optimizer that is seen for the first time belongs to the turn before it. One that steps
    only now and then ends no turn.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._known: set[int] = set()
        self._stepped: dict[int, int] = {}

    def stepped(self, optimizer: int) -> bool:
        """Takes note that this optimizer stepped; True where a turn ends with it."""
        if optimizer not in self._seen:
            self._seen.add(optimizer)
            self._known.add(optimizer)
            self._stepped.clear()
            return True
        self._stepped[optimizer] = self._stepped.get(optimizer, 0) + 1
        if self._stepped[optimizer] > PATIENCE:
            self._known = set(self._stepped)
        if self._known <= self._stepped.keys():
            self._stepped.clear()
            return True
        return False
