"""What following costs here and now, measured on calls that do nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from longpole.capture.patches import Patches
from longpole.convergence.follow import Follower
from longpole.convergence.listening import Listener
from longpole.trace.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 300
ROUNDS = 5


def following_ns(backwards: float, texts: float) -> float:
    """Nanoseconds a step, of a step with so many calls of backward and so many texts written."""
    follower = Follower()
    loss = torch.zeros(())
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])

    def nothing(_: object) -> None:
        return None

    wrapped = follower.wrap_backward(nothing)

    def turn() -> None:
        follower.before_step(optimizer)
        follower.after_step(optimizer)

    def back() -> None:
        wrapped(loss)

    listener = Listener(lambda: (0, monotonic_ns()), Patches())
    bare = _fastest(lambda: None)
    back()
    return (
        backwards * max(_fastest(back) - bare, 0.0)
        + max(_fastest(turn) - bare, 0.0)
        + texts * max(_fastest(lambda: listener.note("stdout", "\n")) - bare, 0.0)
    )


def _fastest(call: Callable[[], object]) -> float:
    rounds: list[int] = []
    for _ in range(ROUNDS):
        start = monotonic_ns()
        for _ in range(CALLS):
            call()
        rounds.append(monotonic_ns() - start)
    return min(rounds) / CALLS
