"""Hooks on saved tensors put in place for a step, and taken out from wherever they lie by then."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from longpole.capture import internals
from longpole.capture.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from longpole.capture.saved import SavedLog


class WatchingHooks:
    """Between `start` and `stop` the log sees what is saved, except where hooks must not be.

    torch.func.grad, vjp and the like raise where any hooks are active. Then ours step aside until they are done: what
    is saved in there is not seen.
    """

    def __init__(self, log: SavedLog) -> None:
        self._log = log
        self._patches = Patches()
        self._aside = False

    def start(self) -> None:
        internals.push_saved_hooks(self._log.pack, self._log.unpack)
        disable = internals.AUTOGRAD._saved_tensors_hooks_disable
        enable = internals.AUTOGRAD._saved_tensors_hooks_enable

        def longpole_disable(*args: Any, **kwargs: Any) -> Any:
            self._step_aside()
            try:
                return disable(*args, **kwargs)
            except BaseException:
                self._come_back()
                raise

        def longpole_enable(*args: Any, **kwargs: Any) -> Any:
            result = enable(*args, **kwargs)
            self._come_back()
            return result

        self._patches.set(internals.AUTOGRAD, "_saved_tensors_hooks_disable", longpole_disable)
        self._patches.set(internals.AUTOGRAD, "_saved_tensors_hooks_enable", longpole_enable)

    def stop(self) -> None:
        """Out from below whatever the script has put on top since."""
        self._patches.undo()
        self._aside = False
        self._log.is_open = False
        with lifted(top_hooks, self._is_mine, pop_hooks, push_hooks) as found:
            if found:
                pop_hooks()

    def _is_mine(self, hooks: Any) -> bool:
        return hooks[0] == self._log.pack

    def _step_aside(self) -> None:
        """Hooks of the script's on top of ours are its own affair: it is told of them as without us."""
        found = top_hooks()
        if found is not None and self._is_mine(found):
            pop_hooks()
            self._aside = True
            self._log.saw_transform = True

    def _come_back(self) -> None:
        if self._aside and internals.saved_hooks_allowed():
            self._aside = False
            internals.push_saved_hooks(self._log.pack, self._log.unpack)


@contextmanager
def lifted(
    top: Callable[[], Any], is_it: Callable[[Any], bool], pop: Callable[[], object], push: Callable[[Any], object]
) -> Generator[bool]:
    """A stack without what lies on top of one entry; False where the entry is not in it."""
    above: list[Any] = []
    while (entry := top()) is not None and not is_it(entry):
        above.append(entry)
        pop()
    try:
        yield entry is not None
    finally:
        for other in reversed(above):
            push(other)


def top_hooks() -> Any:
    return internals.top_saved_hooks(True)


def pop_hooks() -> None:
    internals.pop_saved_hooks()


def push_hooks(hooks: Any) -> None:
    internals.push_saved_hooks(*hooks)
