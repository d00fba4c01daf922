"""Sees every call of a module until it is told to stop: for what must happen on entering a layer the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from longpole.capture.internals import call_module, is_compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # module, its arguments, its keyword arguments, whether it is called from outside of any module
    Entered = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], bool], None]

# Modules of torch that use the parameters of a child without calling it.
WHOLE = (nn.MultiheadAttention,)


class ModuleCalls:
    """Calls `entered` before each module computes. Replaces `nn.Module.__call__` on the class, and no object."""

    def __init__(self, entered: Entered) -> None:
        self._entered = entered
        self._before = nn.Module.__call__
        self._ours: Callable[..., Any] | None = None
        self._depth = 0
        self._over = False

    def start(self) -> None:
        before = self._before = nn.Module.__call__

        def longpole_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if self._over or torch.compiler.is_compiling():
                return before(module, *args, **kwargs)
            self._entered(module, args, kwargs, self._depth == 0)
            if is_compiled(module):
                return self._compiled(module, args, kwargs)
            self._depth += 1
            try:
                return before(module, *args, **kwargs)
            finally:
                self._depth -= 1

        self._ours = longpole_call
        nn.Module.__call__ = longpole_call

    def stop(self) -> None:
        """Takes it out; where another has been put over it since, it stays there and does nothing."""
        self._over = True
        if nn.Module.__call__ is self._ours:
            nn.Module.__call__ = self._before

    def _compiled(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The inside of a compiled module must not be traced with us in it."""
        here = nn.Module.__call__
        nn.Module.__call__ = call_module
        try:
            return self._before(module, *args, **kwargs)
        finally:
            nn.Module.__call__ = here


def own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that this module uses itself."""
    return list(module.parameters(recurse=isinstance(module, WHOLE)))


def layers_within(module: nn.Module) -> Iterator[nn.Module]:
    """What calling this module enters, where that is not seen: of a compiled one, all in order of registration."""
    if not is_compiled(module):
        yield module
        return
    inside: set[int] = set()
    for one in module.modules():
        if id(one) not in inside:
            yield one
        if isinstance(one, WHOLE):
            inside.update(map(id, one.modules()))


def clean_path(path: str) -> str:
    """Without the wrappers of torch.compile and DistributedDataParallel."""
    parts = [part for part in path.split(".") if part != "_orig_mod"]
    return ".".join(parts[1:] if parts[:1] == ["module"] else parts)
