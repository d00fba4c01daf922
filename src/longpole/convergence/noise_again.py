"""Gradients of two halves of a batch by running the network on each: for networks with batch normalization.

There, what an example adds to a weight's gradient depends on the other examples of its batch, and the sum over a
part of the batch is no gradient of that part: the parts' sums lean against one another, and |G|² comes out too small.
So the network runs again on each half, with the loss function that the script called. Buffers and random numbers are
put back as they were, and no `.grad` is touched.
"""

from __future__ import annotations

import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from longpole.convergence.noise_estimator import Parts
from longpole.convergence.noise_inputs import cut, tensors
from longpole.convergence.noise_split import squared

if TYPE_CHECKING:
    from collections.abc import Generator

    from longpole.convergence.noise_calls import Call, LossCall

HALVES = 2


def why_not(call: Call | None, loss: LossCall | None, started: Any) -> str:
    """Why the halves cannot be run; empty where they can. `started` is what backward was called on."""
    if call is None or call.batch is None or call.batch.examples < 2 * HALVES:
        return "its batch normalization depends on the whole batch, which is too small to divide"
    if call.autocast:
        return "its batch normalization depends on the whole batch, and it ran under autocast"
    roots = tensors([started])
    if loss is None or len(roots) != 1 or roots[0] is not loss.result:
        return "its batch normalization depends on the whole batch, and the loss is no single call of torch's"
    if _place(call, loss) is None:
        return "its batch normalization depends on the whole batch, and the loss takes more than the network's output"
    return ""


def _place(call: Call, loss: LossCall) -> int | None:
    """Which of the network's output tensors the loss was called on, as it is or as a view of all of it."""
    given = loss.input
    for index, out in enumerate(call.outputs):
        if isinstance(given, torch.Tensor) and given.data_ptr() == out.data_ptr() and given.numel() == out.numel():
            return index
    return None


def halves(call: Call, loss: LossCall, learning: dict[int, torch.Tensor]) -> dict[int, Parts]:
    """Norms of both halves' gradients and of their mean, by parameter. Ask `why_not` first.

    The whole is the mean of the halves, so that all three have batch normalization over the same number of examples.
    """
    assert call.batch is not None
    size = call.batch.examples // HALVES
    parts = [range(half * size, (half + 1) * size) for half in range(HALVES)]
    with undisturbed(call.module):
        grads = [_gradient(call, loss, list(learning.values()), part) for part in parts]
    found: dict[int, Parts] = {}
    for identity, *pair in zip(learning, *grads, strict=True):
        both = [one for one in pair if one is not None]
        if len(both) == HALVES:
            mean = torch.stack([one.float() for one in both]).mean(0)
            found[identity] = Parts((size,) * HALVES, tuple(squared(one) for one in both), squared(mean))
    return found


def _gradient(call: Call, loss: LossCall, learning: list[torch.Tensor], part: range) -> tuple[torch.Tensor | None, ...]:
    assert call.batch is not None
    examples = call.batch.examples
    args, kwargs = cut((call.args, call.kwargs), examples, part)
    with torch.enable_grad():
        out = tensors(call.module(*args, **kwargs))[_place(call, loss) or 0]
        rows = loss.input.shape[0]
        value = out.reshape(-1, *loss.input.shape[1:])
        share = range(part.start * rows // examples, part.stop * rows // examples)
        more, named = cut((loss.args[1:], {k: v for k, v in loss.kwargs.items() if k != "input"}), rows, share)
        return torch.autograd.grad(loss.function(value, *more, **named).sum(), learning, allow_unused=True)


@contextmanager
def undisturbed(module: torch.nn.Module) -> Generator[None]:
    """Puts back buffers and the states of random number generators on leaving, whatever ran in between."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    python, numpy = random.getstate(), sys.modules.get("numpy")
    state = numpy.random.get_state() if numpy is not None else None
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(state)
