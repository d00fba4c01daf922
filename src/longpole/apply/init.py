"""Weights that a network starts from: loaded into it when it is first called, before it computes.

A file from a stranger is data: it is read without running anything in it. Tensors are matched by name and shape, under
whatever prefix most of them match (`module.`, `_orig_mod.`, `model.`); what does not fit, such as a head for other
classes, stays as the script made it, and is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from longpole.apply import notes
from longpole.apply.first_forward import ModuleCalls
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import nn

USUAL_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")
MOST_NAMED = 4
PROBES = 8  # names of the network from which prefixes are guessed


class StartingWeights:
    """Loads the file's tensors into each network that is called before the first update."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.loaded = 0
        self._tensors = read_weights(self.file)
        self._calls = ModuleCalls(self._entered)
        self._seen: set[int] = set()
        self._is_first = True

    def start(self) -> None:
        self._calls.start()
        register_optimizer_step_pre_hook(self._before_first_update)

    def unmet(self) -> str | None:
        """Why this change was not made; None where it was."""
        if self.loaded:
            return None
        return f"--init {self.file.name}: none of its {len(self._tensors)} tensors fits a network that the script calls"

    def _entered(self, module: nn.Module, _args: tuple[Any, ...], _kwargs: dict[str, Any], outermost: bool) -> None:
        if not outermost or id(module) in self._seen:
            return
        self._seen.add(id(module))
        own = module.state_dict()
        matched = matches(own, self._tensors)
        fitting = {name: tensor for name, tensor in matched.items() if own[name].shape == tensor.shape}
        if not fitting:
            return
        with torch.no_grad():
            for name, tensor in fitting.items():
                own[name].copy_(tensor)
        self.loaded += len(fitting)
        notes.said.append(f"{self.file.name}: {_told(own, matched, fitting)}")

    def _before_first_update(self, *_: object) -> None:
        """Later a copy of the network, such as an average, may be called first: it has learnt by then."""
        if self._is_first:  # a hook that is running cannot be taken out; this one does nothing from now on
            self._is_first = False
            self._calls.stop()
            self._check()

    def _check(self) -> None:
        problem = self.unmet()
        if problem:
            raise LongpoleError(problem)


def start_from(file: str) -> StartingWeights:
    """Raises LongpoleError where the file holds no weights that can be read."""
    weights = StartingWeights(file)
    weights.start()
    return weights


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by name. Raises LongpoleError; nothing in the file is run."""
    try:
        content = _read(file)
    except LongpoleError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        raise LongpoleError(
            f"--init {file}: cannot be read as plain weights ({reason}); save them with torch.save(model.state_dict())"
        ) from error
    tensors = _tensors_in(content)
    if not tensors:
        raise LongpoleError(f"--init {file}: holds no tensors by name; save model.state_dict()")
    return tensors


def _read(file: Path) -> Any:
    if file.suffix != ".safetensors":
        return torch.load(file, map_location="cpu", weights_only=True)
    try:
        from safetensors.torch import load_file  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise LongpoleError(f"--init {file}: reading it needs the package safetensors; or save a .pt file") from error
    return load_file(str(file))


def _tensors_in(content: Any, depth: int = 2) -> dict[str, torch.Tensor]:
    """The mapping with the most tensors, this one or, under a usual name, one in it."""
    if not isinstance(content, dict):
        return {}
    found = {
        name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    inner = [_tensors_in(content[key], depth - 1) for key in USUAL_KEYS if key in content] if depth else []
    return max([found, *inner], key=len)


def matches(own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The given tensor for each name of the network, under the pair of prefixes with the most fitting shapes."""
    found: dict[str, torch.Tensor] = {}
    most = 0
    for ours, theirs in _prefixes(list(own), list(given)):
        some = {
            name: given[theirs + name.removeprefix(ours)]
            for name in own
            if name.startswith(ours) and theirs + name.removeprefix(ours) in given
        }
        fitting = sum(own[name].shape == tensor.shape for name, tensor in some.items())
        if fitting > most:
            found, most = some, fitting
    return found


def _prefixes(own: list[str], given: list[str]) -> list[tuple[str, str]]:
    """Pairs of prefixes: of the network's names, and of the file's, after which names are the same."""
    pairs = {("", ""): None}
    pairs |= {("", name.removesuffix(mine)): None for mine in own[:PROBES] for name in _ending(given, mine)}
    pairs |= {(name.removesuffix(theirs), ""): None for theirs in given[:PROBES] for name in _ending(own, theirs)}
    return list(pairs)


def _ending(names: Iterable[str], end: str) -> list[str]:
    return [name for name in names if name.endswith("." + end)]


def _told(own: Mapping[str, Any], matched: Mapping[str, Any], fitting: Mapping[str, Any]) -> str:
    said = f"{len(fitting)} of {len(own)} tensors loaded"
    wrong = [
        f"{name} is {tuple(own[name].shape)} and not {tuple(tensor.shape)}"
        for name, tensor in matched.items()
        if name not in fitting
    ]
    missing = [f"{name} is not in the file" for name in own if name not in matched]
    left = [*wrong, *missing]
    more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
    return said + (f"; left as they were: {', '.join(left[:MOST_NAMED])}{more}" if left else "")
