"""Which layers of a network a user's names stand for, and what to say where they stand for none."""

from __future__ import annotations

import difflib
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from longpole.apply.again import Buffers
from longpole.capture import internals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from longpole.apply.network import Network
    from longpole.whatif.layer_names import Pattern

MOST_NAMED = 6
HOLDERS = (nn.ModuleList.forward, nn.ModuleDict.forward)  # never called: they stand for what they hold


@dataclass(slots=True)
class Chosen:
    """A layer that is to be computed again; `calls` counts how often it was called so."""

    path: str
    module: weakref.ref[nn.Module]
    patterns: frozenset[Pattern]  # that stand for it, or for a layer inside of it
    buffers: Buffers
    calls: int = 0


def choose(network: Network, patterns: Sequence[Pattern]) -> Iterator[Chosen]:
    """The outermost layers that the names stand for; what is inside of them is computed again with them."""
    covered: set[int] = set()
    for path, module in network.modules():
        fitting = frozenset(p for p in patterns if any(map(p.fits, network.names_of(path))))
        if not fitting or id(module) in covered:
            continue
        for name, layer in _called(path, module):
            if id(layer) not in covered:
                yield Chosen(name, weakref.ref(layer), fitting | _inside(layer, network, patterns), Buffers(layer))
                covered.update(map(id, layer.modules()))


def _called(path: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    if type(module).forward not in HOLDERS:
        return [(path, module)]
    return [one for name, child in module.named_children() for one in _called(f"{path}.{name}", child)]


def _inside(layer: nn.Module, network: Network, patterns: Sequence[Pattern]) -> frozenset[Pattern]:
    below = {id(module) for module in layer.modules()}
    names = [name for path, module in network.modules() if id(module) in below for name in network.names_of(path)]
    return frozenset(p for p in patterns if any(map(p.fits, names)))


def compiled_round(layer: nn.Module, network: Network) -> bool:
    """Whether the layer is compiled, or part of a module that is, or has one in it."""
    return any(internals.is_compiled(module) for module in layer.modules()) or any(
        internals.is_compiled(module) and any(part is layer for part in module.modules())
        for _, module in network.modules()
    )


def unknown(pattern: Pattern, networks: Iterable[Network]) -> str:
    """One line for a name that stands for nothing, with those that come close."""
    paths = [path for network in networks for path, _ in network.modules() if path]
    if not paths:
        return f"--checkpoint {pattern.text}: no network was called, so that no layer has a name"
    close = difflib.get_close_matches(pattern.text, paths, MOST_NAMED, 0.5)
    shown = close or sorted(paths, key=lambda path: path.count("."))[:MOST_NAMED]
    more = f" and {len(paths) - len(shown)} more" if len(paths) > len(shown) else ""
    return f"--checkpoint {pattern.text}: no layer has this name; there are {', '.join(shown)}{more}"
