"""What one followed run hands to the process that started it: losses, texts and logged figures, by step."""

from __future__ import annotations

import msgspec


class StopAt(msgspec.Struct, frozen=True):
    """Where a run may end early: at a target of a metric."""

    target: float
    metric: str | None = None  # None: the loss; else as asked, by its name or a part of it
    is_whole_name: bool = False  # of `metric`: another run has shown it
    direction: str | None = None  # falls | rises, as asked; else the metric's name has to say


class Options(msgspec.Struct, frozen=True):
    """What the child process is told, as JSON in its first argument."""

    result: str  # file to write
    max_steps: int | None = None
    budget_s: float | None = None
    returned: str | None = None  # a function of the script, "evaluate" or "Trainer.evaluate", whose value is followed
    stop_at: StopAt | None = None


class Series(msgspec.Struct):
    """A figure that the run computes: one value a step, where it has one."""

    name: str
    steps: list[int] = []
    values: list[float] = []


class Text(msgspec.Struct):
    """Something written to stdout or stderr, or given to the logging module."""

    step: int  # updates done by then
    ns: int
    stream: str  # stdout | stderr | logging
    text: str


class Figure(msgspec.Struct):
    """A named figure given to a logger, or returned."""

    step: int
    ns: int
    source: str  # logged | returned
    name: str
    value: float


class LayerSeen(msgspec.Struct):
    path: str
    type: str
    parameters: int


class Observed(msgspec.Struct):
    """Times are nanoseconds of one monotonic clock."""

    step_ends_ns: list[int] = []
    losses: list[Series] = []
    texts: list[Text] = []
    figures: list[Figure] = []
    stopped: str = "script end"  # script end | target | max steps | budget | interrupt | error
    problem: str | None = None
    batch_size: int | None = None
    parameters: int | None = None
    layers: list[LayerSeen] = []
    following_ns: float = 0.0  # what following cost, a step
    notes: list[str] = []
