"""One step of each recurrent kind, and the loop over steps; what multiplies the state is handed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Step = tuple[torch.Tensor, torch.Tensor]  # state and cell, [batch, hidden] each


def unroll(
    kind: str, added: Sequence[Sequence[torch.Tensor]], product: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """States[steps, batch, hidden] from a state of zeros.

    `added[t]` is what the input gives to each gate, [batch, hidden] a gate; `product` makes [batch, gates x hidden]
    of the state.
    """
    h = torch.zeros_like(added[0][0])
    cell = torch.zeros_like(h)
    states: list[torch.Tensor] = []
    for now in added:
        h, cell = _STEPS[kind](now, h, cell, product(h))
        states.append(h)
    return torch.stack(states)


def _vanilla(now: Sequence[torch.Tensor], _: torch.Tensor, cell: torch.Tensor, gates: torch.Tensor) -> Step:
    return torch.relu(gates + now[0]), cell


def _lstm(now: Sequence[torch.Tensor], _: torch.Tensor, cell: torch.Tensor, gates: torch.Tensor) -> Step:
    i, f, g, o = (part + each for part, each in zip(gates.chunk(4, 1), now, strict=True))
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def _gru(now: Sequence[torch.Tensor], h: torch.Tensor, cell: torch.Tensor, gates: torch.Tensor) -> Step:
    r, z, n = gates.chunk(3, 1)
    reset, update = torch.sigmoid(r + now[0]), torch.sigmoid(z + now[1])
    new = torch.tanh(now[2] + reset * n)
    return new + update * (h - new), cell


_STEPS = {"vanilla": _vanilla, "lstm": _lstm, "gru": _gru}
