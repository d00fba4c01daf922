"""Follows a training without an edit to it: its updates, its losses, and what it says of itself.

Costs a microsecond or two a step: a wrapper round `torch.autograd.backward` that reads the value it starts from,
and a hook after the optimizer. Nothing is computed with the network, and no random number is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from longpole.apply.first_forward import ModuleCalls
from longpole.capture.patches import Patches
from longpole.capture.turns import TurnFinder
from longpole.convergence.layers import FirstForward
from longpole.convergence.listening import Listener
from longpole.convergence.losses import LossValues, ScaledLosses, roots_of
from longpole.convergence.observed import Observed, Series
from longpole.trace.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim.optimizer import Optimizer

    from longpole.convergence.reached import TargetWatch
    from longpole.trace.clock import Clock

BACKWARDS_WITHOUT_OPTIMIZER = 20  # then the update is the script's own code, and backward is the rhythm
NO_OPTIMIZER = 0  # no object has this identity


class StopScriptError(SystemExit):
    """Raised in the user's loop when enough steps are done: a clean exit."""


class Follower:
    """Between `start` and `stop` a script trains; `observed` is what it did."""

    def __init__(
        self,
        max_steps: int | None = None,
        deadline_ns: int | None = None,
        returned: str | None = None,
        watch: TargetWatch | None = None,
        clock: Clock = monotonic_ns,
    ) -> None:
        self.max_steps = max_steps
        self.deadline_ns = deadline_ns
        self.stopped = "script end"
        self.notes: list[str] = []
        self.step_ends_ns: list[int] = []
        self.backwards = 0
        self.watch = watch
        self._returned = returned
        self._clock = clock
        self._patches = Patches()
        self._handles: list[Any] = []
        self._listener = Listener(lambda: (len(self.step_ends_ns), clock()), self._patches)
        self._first = FirstForward()
        self._calls = ModuleCalls(self._first.entered)
        self._values = LossValues()
        self._scaled = ScaledLosses()
        self._turns = TurnFinder()
        self._pending: list[int] = []  # places of values since an optimizer stepped
        self._lone: list[tuple[int, list[int]]] = []  # backwards before any optimizer: end, values
        self._is_lone = False  # there is no optimizer: each backward is a step
        self._series: dict[int, list[tuple[int, list[int]]]] = {}  # of each optimizer: step, values
        self._stepped_at: dict[int, int] = {}  # backwards when each optimizer stepped last
        self._inside = False  # of backward
        self._stepping = False  # inside an optimizer's step

    def listen(self) -> None:
        """What the script says is heard before torch is there."""
        self._listener.start()

    def start(self) -> None:
        self._patches.set(torch.autograd, "backward", self.wrap_backward(torch.autograd.backward))
        self._patches.set(GradScaler, "scale", self._scale(GradScaler.scale))
        self._calls.start()
        self._handles = [
            register_optimizer_step_pre_hook(self.before_step),
            register_optimizer_step_post_hook(self.after_step),
        ]

    def stop(self) -> None:
        self._calls.stop()
        self._listener.stop()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._patches.undo()

    def observed(self) -> Observed:
        """What was followed, to the end."""
        if self._listener.left_out:
            self.notes.append("the script says more than is kept: later figures may be missing")
        return self.so_far()

    def so_far(self) -> Observed:
        """What was followed up to now; reads values that are still on a device."""
        return Observed(
            step_ends_ns=self.step_ends_ns,
            losses=self._losses(),
            texts=self._listener.texts,
            figures=self._listener.figures,
            stopped=self.stopped,
            batch_size=self._first.batch_size,
            parameters=self._first.parameters,
            layers=self._first.layers,
            notes=self.notes,
        )

    # -- backward -----------------------------------------------------------------------------------------

    def wrap_backward(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def longpole_backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if self._inside or torch.compiler.is_compiling():  # a checkpointed part goes back within backward
                return function(tensors, *args, **kwargs)
            self._stop_if_done()
            self._inside = True
            places: list[int] = []
            try:
                places = self._note_loss(tensors)
                return function(tensors, *args, **kwargs)
            finally:
                self._inside = False
                self._went_back(places)

        return longpole_backward

    def _scale(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def longpole_scale(scaler: Any, outputs: Any) -> Any:
            scaled = function(scaler, outputs)
            self._scaled.note(scaled, outputs)
            return scaled

        return longpole_scale

    def _note_loss(self, tensors: Any) -> list[int]:
        """The places of the values; none for a closure that is called again and again within one update."""
        if self._stepping and self._pending:
            return []
        places = [self._values.add(self._scaled.before_scaling(root)) for root in roots_of(tensors)]
        self._pending += places
        return places

    def _went_back(self, places: list[int]) -> None:
        self.backwards += 1
        if self._is_lone:
            self._lone_step(self._clock(), places)
        elif not self._stepped_at:
            self._lone.append((self._clock(), places))
            if len(self._lone) > BACKWARDS_WITHOUT_OPTIMIZER:
                self._is_lone = True
                for end, own in self._lone:
                    self._lone_step(end, own)

    def _lone_step(self, end: int, places: list[int]) -> None:
        self._series.setdefault(NO_OPTIMIZER, []).append((len(self.step_ends_ns) + 1, places))
        self._pending.clear()
        self._turn(end)

    def _not_lone_after_all(self) -> None:
        """The first update came after very many micro-batches: all so far was one step."""
        self._pending = [place for _, places in self._series.pop(NO_OPTIMIZER) for place in places]
        self.step_ends_ns.clear()
        self._is_lone = False

    # -- steps --------------------------------------------------------------------------------------------

    def before_step(self, *_: object) -> None:
        if not self.backwards:
            self._stop_if_done()
        self._stepping = True

    def after_step(self, optimizer: Optimizer, *_: object) -> None:
        self._stepping = False
        key = id(optimizer)
        if self.backwards and self._stepped_at.get(key) == self.backwards:
            return  # a wrapper's step round this one, or another update from the same gradients
        if self._is_lone:
            self._not_lone_after_all()
        self._stepped_at[key] = self.backwards
        self._series.setdefault(key, []).append((len(self.step_ends_ns) + 1, self._pending))
        self._pending = []
        if self._turns.stepped(key):
            self._turn(self._clock())

    def _turn(self, end_ns: int) -> None:
        self.step_ends_ns.append(end_ns)
        if len(self.step_ends_ns) == 1:
            self._calls.stop()
            if self._returned is not None and not self._listener.follow_returned(self._returned):
                self.notes.append(f"the script has no function {self._returned}")

    def _stop_if_done(self) -> None:
        """On the way back after the last step, so that what the script says of that step is heard."""
        done = len(self.step_ends_ns)
        if self.max_steps is not None and done >= self.max_steps:
            self.stopped = "max steps"
        elif self.deadline_ns is not None and done and self._clock() > self.deadline_ns:
            self.stopped = "budget"
        elif self._is_at_target():
            self.stopped = "target"
        else:
            return
        raise StopScriptError(0)

    def _is_at_target(self) -> bool:
        """Never of a script that updates by hand: whether its backward passes are steps is not known for sure."""
        return self.watch is not None and not self._is_lone and self.watch.is_reached(self.so_far)

    def _losses(self) -> list[Series]:
        values = self._values.read()
        found: list[Series] = []
        for rows in self._series.values():
            totals: dict[int, list[float]] = {}
            for step, places in rows:
                if places:
                    totals.setdefault(step, []).append(sum(values[place] for place in places))
            if totals:
                means = [sum(parts) / len(parts) for parts in totals.values()]
                found.append(Series("loss", list(totals), means))
        if len(found) > 1:
            for number, series in enumerate(found, 1):
                series.name = f"loss {number}"
        return found
