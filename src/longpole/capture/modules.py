"""Modules: which are called from outside, what they are called, and when each was entered and left.

`torch.nn.Module.__call__` is replaced on the class, never on the user's objects: no hook is registered (hooks
turn off fast paths of nn.TransformerEncoderLayer and make compiled modules warn), and one assignment puts
everything back. Outside deep steps only the classes that are called from outside carry a mark.
"""

from __future__ import annotations

import gc
from array import array
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from longpole.capture.internals import call_module, current_node, is_compiled, is_mapped_over, sequence_number
from longpole.capture.patches import Patches
from longpole.trace.kinds import Phase
from longpole.trace.trace import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from longpole.capture.marks import MarkLog

# Numbers of one call: id of the module, entered at, left at, sequence number on entering, on leaving.
CALL_WIDTH = 5


class ModuleMarks:
    """Marks calls of modules. One of three ways is in place at a time, or none.

    `discover`: notes modules called from outside, at about 0.9 us a module call.
    `mark_roots`: marks only these, at about 1 us a forward pass.
    `mark_layers`: notes every call, with its sequence numbers.
    """

    def __init__(self, log: MarkLog) -> None:
        self.log = log
        self.roots: dict[int, nn.Module] = {}
        self.trained: set[int] = set()  # ids of roots that were called with gradients
        self.batch_size: int | None = None  # first dimension of the first tensor given to a root
        self.calls = array("q")  # CALL_WIDTH numbers a call; tuples would set off the garbage collector
        self.stack: list[int] = []  # ids of the modules that are running, while layers are marked
        self._patches = Patches()
        self._inside = False
        self._round = 0  # counts changes of what is in place

    def discover(self) -> None:
        self.stop()
        self._patches.set(nn.Module, "__call__", self._root_call(nn.Module.__call__))

    def mark_roots(self) -> None:
        self.stop()
        self._patch_roots()

    def mark_layers(self) -> None:
        self.stop()
        self._patches.set(nn.Module, "__call__", self._layer_call(nn.Module.__call__))
        self._patch_roots()

    def stop(self) -> None:
        self._patches.undo()
        self._round += 1
        self._inside = False
        self.stack.clear()

    def weights(self) -> list[nn.Parameter]:
        return [weight for module in self.roots.values() for weight in module.parameters()]

    def _patch_roots(self) -> None:
        for cls in {type(module) for module in self.roots.values()}:
            self._patches.set(cls, "__call__", self._root_call(cls.__call__))

    def _root_call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        log, clock = self.log, self.log.clock

        def longpole_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if self._inside or torch.compiler.is_compiling() or log.is_other_thread() or current_node() is not None:
                return function(module, *args, **kwargs)  # in backward: computed again, and no network of its own
            phase = self._enter_root(module, args, kwargs)
            detail = id(module) << 1 | (not module.training)
            start = clock()
            try:
                return function(module, *args, **kwargs)
            finally:
                log.marks.extend((phase, start, clock(), detail))
                self._inside = False

        return longpole_call

    def _enter_root(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Phase:
        self.roots[id(module)] = module
        if not torch.is_grad_enabled():  # evaluation or a teacher: told apart when it is known how often it happens
            phase = Phase.EVALUATION
        elif _is_loss(module):
            phase = Phase.LOSS
        else:
            phase = Phase.FORWARD
            self.trained.add(id(module))
            if self.batch_size is None:
                self.batch_size = _batch_size((*args, *kwargs.values()))
        if self.log.on_mark is not None:
            self.log.on_mark(phase)
        self._inside = True
        return phase

    def _layer_call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        calls, stack, clock, log = self.calls, self.stack, self.log.clock, self.log
        is_compiling = torch.compiler.is_compiling

        def longpole_call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if is_compiling() or log.is_other_thread():
                return function(module, *args, **kwargs)
            if not stack and not self._inside and current_node() is None:
                self.roots[id(module)] = module
            if is_compiled(module):
                return self._call_compiled(function, module, args, kwargs)
            depth = len(stack)
            stack.append(id(module))
            first, start = sequence_number(), clock()
            try:
                return function(module, *args, **kwargs)
            finally:
                calls.extend((id(module), start, clock(), first, sequence_number()))
                del stack[depth:]  # no pop: a step that ends inside of a module has emptied it

        return longpole_call

    def _call_compiled(self, function: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """A compiled region is one layer: its inside must not be traced with marks in it."""
        here, round_ = nn.Module.__call__, self._round
        depth = len(self.stack)
        self.stack.append(id(module))
        first, start = sequence_number(), self.log.clock()
        nn.Module.__call__ = call_module
        try:
            return function(module, *args, **kwargs)
        finally:
            if round_ == self._round:  # else the step ended in there, and other marks are in place, or none
                nn.Module.__call__ = here
            self.calls.extend((id(module), start, self.log.clock(), first, sequence_number()))
            del self.stack[depth:]

    def take_calls(self) -> array[int]:
        """The calls since the last time. The array stays the same one: the marks that are in place hold it."""
        calls = self.calls[:]
        del self.calls[:]
        return calls


def are_layers_marked() -> bool:
    """Whether calls of modules are noted one by one now, by `mark_layers`."""
    return "_layer_call" in nn.Module.__call__.__qualname__


def _batch_size(values: Iterable[Any]) -> int | None:
    for value in values:
        if isinstance(value, torch.Tensor):  # one that vmap wraps does not show how many there are
            return int(value.shape[0]) if value.dim() and not is_mapped_over(value) else None
        if isinstance(value, dict):
            return _batch_size(value.values())
        if isinstance(value, (list, tuple)):
            return _batch_size(value)
    return None


class LayerTable:
    """Rows of layers for modules, named by their path from the outermost module alive that holds them."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.rows: dict[int, int] = {}
        self.modules: list[nn.Module] = []  # of each layer; ids stay unique while we hold them

    def find(self, called: Iterable[nn.Module]) -> None:
        """Adds every module reachable from the tops of these."""
        new = [module for module in called if id(module) not in self.rows]
        if not new:
            return
        tops = [module for module in _tops(new) if not _is_loss(module)]
        names = _top_names(tops, already=bool(self.layers))
        for top, name in zip(tops, names, strict=True):
            self._add_tree(top, name)
        for module in new:
            if id(module) not in self.rows:
                self._add(module, type(module).__name__, -1)

    def release(self) -> None:
        """Lets go of the modules. No new ones may be looked up after it: an identity may come again."""
        self.modules.clear()

    def row_of(self, module: int) -> int:
        return self.rows.get(module, -1)

    def _add_tree(self, top: nn.Module, name: str) -> None:
        owned: set[int] = set()
        rows: dict[str, int] = {}
        for path, module in top.named_modules():
            parent = rows.get(path.rpartition(".")[0], -1) if path else -1
            full = _clean(f"{name}.{path}" if name and path else name or path)
            rows[path] = self._add(module, full, parent, owned)

    def _add(self, module: nn.Module, path: str, parent: int, owned: set[int] | None = None) -> int:
        if id(module) in self.rows:
            return self.rows[id(module)]
        owned = set() if owned is None else owned
        own = [p for p in module.parameters(recurse=False) if id(p) not in owned]
        owned.update(map(id, own))
        self.rows[id(module)] = len(self.layers)
        self.modules.append(module)
        self.layers.append(
            Layer(
                path=path,
                type=type(module).__name__,
                parent=parent,
                container=any(True for _ in module.children()),
                parameters=sum(p.numel() for p in own),
                trainable=sum(p.numel() for p in own if p.requires_grad),
                parameter_shapes=tuple(tuple(p.shape) for p in own if p.requires_grad),
            )
        )
        return self.rows[id(module)]


def _is_loss(module: nn.Module) -> bool:
    return type(module).__module__ == "torch.nn.modules.loss" and next(module.parameters(), None) is None


def _tops(called: list[nn.Module]) -> list[nn.Module]:
    """The outermost modules alive that hold these. Found among the collector's objects, since a frame's
    locals cannot be read without keeping the user's tensors alive."""
    alive = [found for found in gc.get_objects() if issubclass(type(found), nn.Module) and "_modules" in vars(found)]
    parents: dict[int, nn.Module] = {}
    for module in alive:
        for child in module._modules.values():
            if child is not None:
                parents.setdefault(id(child), module)
    tops: dict[int, nn.Module] = {}
    for module in called:
        top, seen = module, {id(module)}
        while id(top) in parents and id(parents[id(top)]) not in seen:
            top = parents[id(top)]
            seen.add(id(top))
        tops[id(top)] = top
    return list(tops.values())


def _top_names(tops: list[nn.Module], *, already: bool) -> list[str]:
    """One network needs no name before its paths; several are told apart by their class."""
    if len(tops) == 1 and not already and any(True for _ in tops[0].children()):
        return [""]
    names: list[str] = []
    for top in tops:
        name = type(top).__name__
        same = sum(other == name or other.startswith(f"{name}#") for other in names)
        names.append(f"{name}#{same + 1}" if same else name)
    return names


def _clean(path: str) -> str:
    """Without the wrappers of torch.compile, DistributedDataParallel and FSDP."""
    hidden = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
    parts = [part for part in path.split(".") if part not in hidden]
    if parts[:1] == ["module"]:
        parts = parts[1:]
    return ".".join(parts)
