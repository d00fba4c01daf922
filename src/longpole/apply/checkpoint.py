"""Layers computed again in backward instead of kept, in a script that knows nothing of it.

`torch.nn.Module.__call__` is replaced on the class; the user's objects stay as they are, so that copies of a
network and its saved files are those of the script.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.checkpoint import checkpoint

from longpole.apply.again import Draws, as_it_was
from longpole.apply.choosing import choose, compiled_round, unknown
from longpole.apply.network import Networks, paths_alive
from longpole.capture import internals
from longpole.capture.modules import are_layers_marked
from longpole.capture.patches import Patches
from longpole.whatif.layer_names import parse_patterns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.apply.choosing import Chosen
    from longpole.apply.network import Network
    from longpole.whatif.layer_names import Pattern


class NotAppliedError(SystemExit):
    """Raised in the script where a change cannot be made: a run without it would not be what was asked for."""


class _Thread(threading.local):
    """Where a thread is: backward may run in one of its own."""

    inside = False  # a call from outside is running
    plain = False  # a checkpointed layer is running: what is in it is part of it


class Checkpoints:
    """The layers that were named, and what becomes of them."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self.failure: str | None = None
        self._patterns = patterns
        self._networks = Networks()
        self._chosen: dict[int, Chosen] = {}
        self._thread = _Thread()
        self._looked = False
        self._patches = Patches()
        self._handle: Any = None

    def install(self) -> None:
        """From now on, layers with one of the names are checkpointed when they are called to train."""
        plain = nn.Module.__call__
        thread, chosen, is_compiling = self._thread, self._chosen, torch.compiler.is_compiling

        @functools.wraps(plain)
        def longpole_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if thread.plain or is_compiling():
                return plain(module, *args, **kwargs)
            if not thread.inside:
                return self._from_outside(plain, module, args, kwargs)
            if id(module) in chosen:
                return self._perhaps(plain, module, args, kwargs)
            return plain(module, *args, **kwargs)

        self._patches.set(nn.Module, "__call__", longpole_call)
        self._handle = register_optimizer_step_pre_hook(self._first_update)

    def remove(self) -> None:
        """Layers are called as before. Not while something else that replaced the call is in place over this."""
        self._patches.undo()
        self._handle.remove()

    def unmet(self) -> str | None:
        """Why the run is not what was asked for, in one line; None where each name stands for a layer that ran."""
        if self.failure is not None:
            return self.failure
        ran = {pattern for chosen in self._chosen.values() if chosen.calls for pattern in chosen.patterns}
        idle = {pattern for chosen in self._chosen.values() for pattern in chosen.patterns} - ran
        for pattern in self._patterns:
            if pattern in idle:
                return (
                    f"--checkpoint {pattern.text}: was never called in training mode with gradients, so that there "
                    "was nothing to compute again; name a layer round it or inside of it"
                )
            if pattern not in ran:
                return unknown(pattern, self._networks.met)
        return None

    def _from_outside(self, plain: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        network = self._networks.meet(module)
        if network is not None:
            self._choose(network)
        self._thread.inside = True
        try:
            return self._perhaps(plain, module, args, kwargs)
        finally:
            self._thread.inside = False

    def _choose(self, network: Network) -> None:
        for chosen in choose(network, self._patterns):
            layer = chosen.module()
            if layer is None:
                continue
            if compiled_round(layer, network):
                self._stop(
                    f"--checkpoint {chosen.path}: is compiled, and torch.compile decides for itself what it "
                    "computes again; run without torch.compile"
                )
            self._chosen[id(layer)] = chosen

    def _first_update(self, *_: object) -> None:
        """By now the networks that train are there: a name that stands for nothing in any of them is a mistake."""
        if self._looked:
            return
        self._looked = True
        found = {pattern for chosen in self._chosen.values() for pattern in chosen.patterns}
        missing = [pattern for pattern in self._patterns if pattern not in found]
        alive = paths_alive() if missing else set[str]()
        for pattern in missing:
            if not any(map(pattern.fits, alive)):
                self._stop(unknown(pattern, self._networks.met))

    def _stop(self, reason: str) -> None:
        self.failure = self.failure or reason
        raise NotAppliedError(2)

    def _perhaps(self, plain: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """What does not train keeps nothing for backward, and the identity of a module comes again after its end."""
        chosen = self._chosen.get(id(module))
        trains = module.training and torch.is_grad_enabled()
        if chosen is None or chosen.module() is not module or not trains:
            return plain(module, *args, **kwargs)
        if not internals.saved_hooks_allowed():
            self._stop(f"--checkpoint {chosen.path}: is called inside a transform of torch.func, which forbids it")
        return self._checkpointed(chosen, functools.partial(plain, module), args, kwargs)

    def _checkpointed(self, chosen: Chosen, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        leaves, spec = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        versions = [tensor._version for tensor in tensors]
        copies, draws = chosen.buffers.before(), Draws()
        first = [(args, kwargs)]  # as they came: a layer may fill a list that it was given

        def run(*found: Any) -> Any:
            if first:
                given, named = first.pop()
                return self._inside(plain, given, named)
            given, named = tree_unflatten(list(found), spec)
            with as_it_was(copies, draws):
                return self._inside(_again(chosen, plain), given, named)

        result = checkpoint(run, *leaves, use_reentrant=False, preserve_rng_state=True)
        chosen.buffers.after(copies)
        chosen.calls += 1
        if versions != [tensor._version for tensor in tensors]:
            self._stop(
                f"--checkpoint {chosen.path}: writes into its own input, so that it cannot be computed from it a "
                "second time; name a layer inside of it, or one round it"
            )
        return result

    def _inside(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        before, self._thread.plain = self._thread.plain, True
        try:
            return function(*args, **kwargs)
        finally:
            self._thread.plain = before


def _again(chosen: Chosen, plain: Callable[..., Any]) -> Callable[..., Any]:
    """The call of the layer in backward: marked where layers are marked, so that it shows as computed again.

    Marks that look for networks must not see it: a call in backward comes from outside, too.
    """
    module, here = chosen.module(), nn.Module.__call__
    if module is None or not are_layers_marked():
        return plain
    return functools.partial(here, module)


def checkpoint_layers(names: Sequence[str]) -> Checkpoints:
    """Has the layers with these names computed again in backward. Raises LongpoleError where one is no name."""
    checkpoints = Checkpoints(parse_patterns(names))
    checkpoints.install()
    return checkpoints
