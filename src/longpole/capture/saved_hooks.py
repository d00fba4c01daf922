"""Hooks on saved tensors put in place for a step, and taken out from wherever they lie by then."""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from longpole.capture import internals
from longpole.capture.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from longpole.capture.saved import SavedLog


class HookStack:
    """The hooks on saved tensors that are in place on this thread, whoever put them there.

    torch 2.4 does not tell what lies on top. There, what is put on it is followed from `follow` on.
    """

    def __init__(self) -> None:
        self._patches = Patches()
        self._followed: dict[int, list[Any]] | None = None  # by thread

    def follow(self) -> bool:
        """Whether following began with this call: who began it ends it, by `leave`."""
        if internals.top_saved_hooks is not None or self._followed is not None:
            return False
        self._followed = defaultdict(list)
        self._patches.set(internals.AUTOGRAD, "_push_saved_tensors_default_hooks", lambda *pair: self.push(pair))
        self._patches.set(internals.AUTOGRAD, "_pop_saved_tensors_default_hooks", self.pop)
        return True

    def leave(self) -> None:
        self._patches.undo()
        self._followed = None

    def top(self) -> Any:
        if internals.top_saved_hooks is not None:
            return internals.top_saved_hooks(True)
        here = self._here()
        return here[-1] if here else None

    def push(self, hooks: Any) -> None:
        internals.push_saved_hooks(*hooks)
        self._here().append(hooks)

    def pop(self) -> None:
        internals.pop_saved_hooks()
        del self._here()[-1:]

    def _here(self) -> list[Any]:
        return [] if self._followed is None else self._followed[threading.get_ident()]


hook_stack = HookStack()


class WatchingHooks:
    """Between `start` and `stop` the log sees what is saved, except where hooks must not be.

    torch.func.grad, vjp and the like raise where any hooks are active. Then ours step aside until they are done: what
    is saved in there is not seen.
    """

    def __init__(self, log: SavedLog) -> None:
        self._log = log
        self._patches = Patches()
        self._aside = False
        self._follows = False

    def start(self) -> None:
        self._follows = hook_stack.follow()
        hook_stack.push((self._log.pack, self._log.unpack))
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
        with lifted(hook_stack.top, self._is_mine, hook_stack.pop, hook_stack.push) as found:
            if found:
                hook_stack.pop()
        if self._follows:
            hook_stack.leave()

    def _is_mine(self, hooks: Any) -> bool:
        return hooks[0] == self._log.pack

    def _step_aside(self) -> None:
        """Hooks of the script's on top of ours are its own affair: it is told of them as without us."""
        found = hook_stack.top()
        if found is not None and self._is_mine(found):
            hook_stack.pop()
            self._aside = True
            self._log.saw_transform = True

    def _come_back(self) -> None:
        if self._aside and internals.saved_hooks_allowed():
            self._aside = False
            hook_stack.push((self._log.pack, self._log.unpack))


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
