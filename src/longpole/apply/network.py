"""Networks of a running script: met at the first call from outside, their layers named as the report names them."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

from torch import nn

from longpole.capture.modules import LayerTable

if TYPE_CHECKING:
    from collections.abc import Iterator


class Network:
    """The layers of one outermost module, by the names that the report may give them.

    A network that is the only one needs no name before its paths; of several each goes by its class. Which it is
    shows when the last one has been called, so both ways are kept.
    """

    def __init__(self, called: nn.Module, before: Iterator[Network]) -> None:
        table = LayerTable()
        table.find([called])
        pairs = zip(table.layers, table.modules, strict=True)
        self.layers = [(layer.path, weakref.ref(module)) for layer, module in pairs]
        self.type = table.layers[0].type if table.layers else type(called).__name__
        same = sum(other.type == self.type for other in before)
        self.name = f"{self.type}#{same + 1}" if same else self.type

    def names_of(self, path: str) -> tuple[str, ...]:
        if path in ("", self.type):
            return (self.name,)
        return (path, f"{self.name}.{path}")

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Those still alive, outer ones first."""
        for path, reference in self.layers:
            module = reference()
            if module is not None:
                yield path, module


class Networks:
    """Every network met so far."""

    def __init__(self) -> None:
        self.met: list[Network] = []
        self._known: dict[int, weakref.ref[nn.Module]] = {}

    def meet(self, module: nn.Module) -> Network | None:
        """The network that this module, called from outside, belongs to; None where it is known already."""
        known = self._known.get(id(module))
        if known is not None and known() is module:  # an identity comes again when its module is gone
            return None
        network = Network(module, iter(self.met))
        for _, reference in network.layers:
            found = reference()
            if found is not None:
                self._known[id(found)] = reference
        self._known[id(module)] = weakref.ref(module)
        self.met.append(network)
        return network


def paths_alive() -> set[str]:
    """Paths of every module that the process holds, from any module that holds it: of networks not called yet, too."""
    alive = [found for found in gc.get_objects() if issubclass(type(found), nn.Module) and "_modules" in vars(found)]
    found = {path for module in alive for path, _ in module.named_modules()}
    return found | {f"{type(module).__name__}.{path}" for module in alive for path, _ in module.named_modules()}
