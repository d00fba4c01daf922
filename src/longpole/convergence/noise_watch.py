"""Gradient noise measured while a script trains: on every so many updates, parts of the gradient beside the whole.

Where an update sums several backward passes, each of them is a part. Where it has one, the parts are runs of
examples (see noise_groups), from the script's own forward and backward; only a network with batch normalization
runs again on halves (see noise_again). Neither way are its gradients, buffers or random numbers touched, so losses
stay the same to the bit on every step, the sampled ones too.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from longpole.capture.hooks import has_compiled_code
from longpole.capture.patches import Patches
from longpole.capture.turns import TurnFinder
from longpole.convergence.noise_again import halves, why_not
from longpole.convergence.noise_estimator import Parts
from longpole.convergence.noise_split import before_mixing, split, squared
from longpole.convergence.noise_uses import UseRecorder
from longpole.trace.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from longpole.convergence.noise_split import Fired

FIRST = 1  # updates let pass: the first ones tell the optimizers, and how many backward passes an update has


@dataclass(frozen=True, slots=True)
class NoiseOptions:
    every: int = 5  # updates from one sampled update to the next
    most: int = 400  # sampled updates


@dataclass(slots=True)
class Sample:
    """One sampled update: norms by parameter (its id), and why there are none for some."""

    step: int
    by_parameter: dict[int, Parts] = field(default_factory=dict[int, Parts])
    not_covered: dict[int, str] = field(default_factory=dict[int, str])
    from_micro_batches: bool = False
    examples: int | None = None


@dataclass(slots=True)
class _Backward:
    """One backward pass of a sampled update."""

    squared: dict[int, float]  # squared norm of what it added to each gradient
    examples: int | None
    parts: dict[int, Parts]  # by runs of examples, where this is the only pass of its update
    reasons: dict[int, str]


class NoiseWatch:
    """`start` when torch is there, `finish` always. A failure ends the watching, never the training."""

    def __init__(self, options: NoiseOptions | None = None) -> None:
        self.options = options or NoiseOptions()
        self.samples: list[Sample] = []
        self.parameters: dict[int, torch.Tensor] = {}  # of all optimizers seen
        self.uses = UseRecorder(self._is_other_thread)
        self.steps = 0
        self.failure: str | None = None
        self.reasons: set[str] = set()  # why sampled updates gave nothing
        self.ran_again = False  # whether halves of the batch were run again
        self.measuring_ns = 0
        self.step_ns: list[int] = []  # of updates that were not sampled, nor next to one that was
        self._patches = Patches()
        self._handles: list[Any] = []
        self._turns = TurnFinder()
        self._thread: int | None = None
        self._active = False
        self._stepping = 0
        self._optimizers: set[int] = set()  # that stepped in this turn
        self._sampling = False
        self._backwards: list[_Backward] = []
        self._sums: dict[int, torch.Tensor] = {}  # of what they added
        self._usual = 1  # backward passes in the update before
        self._count = 0
        self._turn_ns = self._first_ns = 0
        self._clean = False  # whether this turn's time is the script's own

    # -- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._active = True
        self._patches.set(torch.autograd, "backward", self._backward(torch.autograd.backward))
        self._handles = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]

    def finish(self) -> None:
        """Takes everything out. Safe to call twice."""
        self._active = False
        self._sampling = False
        self.uses.stop()
        self._patches.undo()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._forget()

    def _forget(self) -> None:
        self._backwards.clear()
        self._sums.clear()

    @property
    def measuring_share(self) -> float | None:
        """Of the time from the first update to the last, what watching took itself."""
        return self.measuring_ns / (self._turn_ns - self._first_ns) if self._turn_ns > self._first_ns else None

    def release(self) -> None:
        """Lets go of the script's tensors and modules."""
        self.parameters.clear()
        self.uses.call = None
        self.uses.roots.clear()
        self.uses.order.clear()

    def _is_other_thread(self) -> bool:
        return self._thread is not None and threading.get_ident() != self._thread

    def _guarded(self, work: Callable[[], None]) -> None:
        began = monotonic_ns()
        try:
            work()
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            self.finish()
        self.measuring_ns += monotonic_ns() - began

    # -- one update ---------------------------------------------------------------------------------------

    def _before_step(self, optimizer: Optimizer, *_: object) -> None:
        if self._active and not self._is_other_thread():
            self._stepping += 1
            self._thread = threading.get_ident()
            self._guarded(lambda: self._learn(optimizer))

    def _learn(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                self.parameters.setdefault(id(parameter), parameter)

    def _after_step(self, optimizer: Optimizer, *_: object) -> None:
        if not self._active or self._is_other_thread():
            return
        self._stepping = max(self._stepping - 1, 0)
        if self._stepping:
            return
        self._optimizers.add(id(optimizer))
        if self._turns.stepped(id(optimizer)):
            self._guarded(self._turn)

    def _turn(self) -> None:
        """An update is over; decides whether the next one is sampled."""
        now = monotonic_ns()
        if self._clean:
            self.step_ns.append(now - self._turn_ns)
        if self._sampling:
            self.uses.stop()
            self._close()
        self.steps += 1
        self._usual, self._count = max(self._count, 1), 0
        self._optimizers.clear()
        self._forget()
        done = self.steps - FIRST - 1
        self._sampling = done >= 0 and done % self.options.every == 0 and len(self.samples) < self.options.most
        self._clean = not self._sampling
        if self._sampling:
            self._open()
        self._turn_ns = monotonic_ns()
        self._first_ns = self._first_ns or self._turn_ns

    def _open(self) -> None:
        if has_compiled_code():
            self.reasons.add("the network is compiled: what happens inside cannot be watched by layer")
            if self._usual < 2:
                self._sampling = False
                return
        self.uses.start()

    def _backward(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def longpole_backward(*args: Any, **kwargs: Any) -> Any:
            if not self._active or self._is_other_thread():
                return function(*args, **kwargs)
            self._count += 1
            if not self._sampling:
                return function(*args, **kwargs)
            before: dict[int, torch.Tensor] = {}
            self._guarded(lambda: before.update(self._gradients()))
            self.uses.fired.clear()
            result = function(*args, **kwargs)
            if self._sampling:
                started = args[0] if args else kwargs.get("tensors")
                self._guarded(lambda: self._take(before, started))
            return result

        return longpole_backward

    def _gradients(self) -> dict[int, torch.Tensor]:
        """Copies of the gradients that are there before a backward pass adds to them."""
        return {
            identity: parameter.grad.detach().clone()
            for identity, parameter in self.parameters.items()
            if parameter.grad is not None and not parameter.grad.is_sparse
        }

    def _take(self, before: dict[int, torch.Tensor], started: Any) -> None:
        fired, self.uses.fired = self.uses.fired, []
        if self._stepping:
            self.reasons.add("the optimizer calls backward itself, several times for one batch")
            return
        deltas = {
            identity: _added(parameter.grad, before.get(identity))
            for identity, parameter in self.parameters.items()
            if parameter.grad is not None and not parameter.grad.is_sparse
        }
        used = {identity for use, _ in fired for identity in use.parameters}
        deltas = {one: delta for one, delta in deltas.items() if one in used or bool(torch.any(delta != 0))}
        examples = self.uses.batch.examples if self.uses.batch is not None else None
        if self._usual > 1:
            for identity, delta in deltas.items():
                self._sums[identity] = self._sums[identity] + delta if identity in self._sums else delta.clone()
            norms = {identity: squared(delta) for identity, delta in deltas.items()}
            self._backwards.append(_Backward(norms, examples, {}, {}))
        else:
            self._backwards.append(_Backward({}, examples, *self._divide(fired, deltas, examples, started)))

    def _divide(
        self, fired: list[Fired], deltas: dict[int, torch.Tensor], examples: int | None, started: Any
    ) -> tuple[dict[int, Parts], dict[int, str]]:
        """The batch in parts: by running examples, and by halves run again where examples depend on one another."""
        mixed = before_mixing(fired)
        if mixed:
            call, loss = self.uses.call, self.uses.loss
            self.uses.stop()
            problem = why_not(call, loss, started)
            if not problem and call is not None and loss is not None:
                self.ran_again = True
                return halves(call, loss, {one: self.parameters[one] for one in deltas}), {}
            parts, reasons = split(fired, {one: delta for one, delta in deltas.items() if one not in mixed}, examples)
            return parts, reasons | {one: problem for one in deltas if one in mixed}
        return split(fired, deltas, examples)

    # -- what a sampled update says -----------------------------------------------------------------------

    def _close(self) -> None:
        sample = Sample(self.steps)
        if self._usual > 1:
            self._combine(sample)
        elif len(self._backwards) == 1:
            only = self._backwards[0]
            sample.by_parameter, sample.not_covered, sample.examples = only.parts, only.reasons, only.examples
        elif self._backwards:
            self.reasons.add("the number of backward passes changes from update to update")
        if sample.by_parameter or sample.not_covered:
            self.samples.append(sample)

    def _combine(self, sample: Sample) -> None:
        """Several backward passes: the parts of one batch, if they are alike.

        What a part adds is its share of the sum over the batch; over its share of the examples, its own mean.
        """
        problem = _unlike(self._backwards, len(self._optimizers))
        if problem:
            self.reasons.add(problem)
            return
        sizes = tuple(one.examples or 0 for one in self._backwards)
        sample.from_micro_batches, sample.examples = True, sum(sizes)
        for identity, whole in self._sums.items():
            norms = [one.squared[identity] * len(sizes) ** 2 for one in self._backwards]
            sample.by_parameter[identity] = Parts(sizes, tuple(norms), squared(whole))


def _added(now: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
    return now.detach() if before is None else now.detach() - before


def _unlike(passes: Sequence[_Backward], optimizers: int) -> str:
    """Why these backward passes are no micro-batches of one batch; empty where they are."""
    if optimizers > 1:
        return "several optimizers step in one turn: their backward passes are no parts of one batch"
    if len(passes) < 2:
        return "the number of backward passes changes from update to update"
    if len({frozenset(one.squared) for one in passes}) > 1:
        return "the backward passes of one update reach different parameters"
    sizes = {one.examples for one in passes}
    return "the micro-batches of one update are not of one size" if None in sizes or len(sizes) > 1 else ""
