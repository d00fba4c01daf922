"""Level 0: marks round the calls that every training loop makes, whoever wrote it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from longpole.capture.internals import LoaderIterator
from longpole.capture.interpreter import frame_at
from longpole.capture.patches import Patches
from longpole.trace.kinds import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.capture.marks import MarkLog


COLLECTIVES = (
    *("all_reduce", "all_gather", "all_gather_into_tensor", "reduce_scatter", "reduce_scatter_tensor", "broadcast"),
    *("all_to_all", "all_to_all_single", "reduce", "gather", "scatter", "send", "recv", "barrier"),
)


class PhaseHooks:
    """Installed once, before the script's first step; `stop` leaves nothing behind."""

    def __init__(
        self, log: MarkLog, stepped: Callable[[Optimizer, int], None], went_back: Callable[[int], None]
    ) -> None:
        self.log = log
        self._stepped = stepped
        self._went_back = went_back
        self.has_other_rhythm = False  # optimizers step: nobody asks how often the script goes back
        self._patches = Patches()
        self._handles: list[Any] = []
        self._running: dict[int, _Running] = {}  # optimizers inside `step`
        self.before_backward: Callable[[str, tuple[Any, ...], dict[str, Any]], None] | None = None

    def start(self) -> None:
        self._patches.set(torch.autograd, "backward", self._backward(torch.autograd.backward))
        self._patches.set(torch.autograd, "grad", self._backward(torch.autograd.grad))
        for place in (torch.nn.utils, torch.nn.utils.clip_grad):
            for name in ("clip_grad_norm_", "clip_grad_value_"):
                self._mark(place, name, Phase.CLIP)
        self._mark(Optimizer, "zero_grad", Phase.OPTIMIZER)
        self._mark(torch, "save", Phase.CHECKPOINT)
        self._mark_transfers()
        self._mark_collectives()
        self._patches.set(LoaderIterator, "__next__", self._next(LoaderIterator.__next__))
        self._handles = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]

    def stop(self) -> None:
        self._patches.undo()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _mark(self, owner: Any, name: str, phase: Phase) -> None:
        self._patches.set(owner, name, self.log.timed(getattr(owner, name), phase))

    def _mark_collectives(self) -> None:
        """Those that the script or a trainer calls itself; what DistributedDataParallel does is inside backward."""
        if torch.distributed.is_available():
            for place in (torch.distributed, torch.distributed.distributed_c10d):
                for name in COLLECTIVES:
                    if hasattr(place, name):
                        self._mark(place, name, Phase.COMMUNICATION)

    def _mark_transfers(self) -> None:
        """A torch built for CPU has nowhere to transfer to, and `Tensor.to` is hot.

        What the build says is asked, not the driver: `torch.cuda.is_available()` may keep DataLoader workers
        from being forked.
        """
        if torch.version.cuda or torch.version.hip or torch.version.xpu:
            for name in ("to", "cuda"):
                self._mark(torch.Tensor, name, Phase.TRANSFER)

    def _backward(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Marked, and told to the recorder: a loop without an optimizer has no other rhythm."""
        timed = self.log.timed(function, Phase.BACKWARD)

        def longpole_backward(*args: Any, **kwargs: Any) -> Any:
            if self.before_backward is not None and not self.log.is_other_thread():
                self.before_backward(function.__name__, args, kwargs)
            result = timed(*args, **kwargs)
            if not self.has_other_rhythm and not self.log.is_other_thread():
                self._went_back(self.log.clock())
            return result

        return longpole_backward

    def _next(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Like `MarkLog.timed`, with the number of workers beside the mark."""
        log, clock = self.log, self.log.clock

        def longpole_next(iterator: Any) -> Any:
            if log.is_other_thread():
                return function(iterator)
            if log.on_mark is not None:
                log.on_mark(Phase.DATA)
            start = clock()
            try:
                return function(iterator)
            finally:
                log.marks.extend((Phase.DATA, start, clock(), getattr(iterator, "_num_workers", 0)))

        return longpole_next

    def _before_step(self, optimizer: Optimizer, *_: object) -> None:
        if self.log.is_other_thread():
            return
        running = self._running.get(id(optimizer))
        caller = id(frame_at(1))
        # An identity is given again when its frame is gone: one that is the caller's now cannot be round it.
        if running is not None and running.frame != caller and _is_on_stack(running.frame):
            running.depth += 1  # a subclass whose step calls that of its base
            return
        if running is not None:  # its last step raised and never came back
            self._running.clear()
        if self.log.on_mark is not None:
            self.log.on_mark(Phase.OPTIMIZER)
        self._running[id(optimizer)] = _Running(caller, self.log.clock())

    def _after_step(self, optimizer: Optimizer, *_: object) -> None:
        running = self._running.get(id(optimizer))
        if running is None or self.log.is_other_thread():
            return
        running.depth -= 1
        if running.depth:
            return
        end = self.log.clock()
        del self._running[id(optimizer)]
        self.log.marks.extend((Phase.OPTIMIZER, running.start_ns, end, 0))
        if not self._running:  # an optimizer that steps others, like a sharded one, is one optimizer
            self._stepped(optimizer, end)


@dataclass(slots=True)
class _Running:
    """A call of an optimizer's step; `frame` is the identity of torch's wrapper round it."""

    frame: int
    start_ns: int
    depth: int = 1


def _is_on_stack(identity: int) -> bool:
    frame = frame_at(1)
    while frame is not None:
        if id(frame) == identity:
            return True
        frame = frame.f_back
    return False


def has_compiled_code() -> bool:
    """Whether torch.compile has compiled anything in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo is not None and dynamo.counters["frames"]["total"] > 0
