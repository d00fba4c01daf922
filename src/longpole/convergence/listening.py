"""What a script prints, logs or returns, noted with the step at which it did; it all passes through unchanged."""

from __future__ import annotations

import functools
import logging
import sys
from typing import TYPE_CHECKING, Any

from longpole.capture.imports import ImportWatch
from longpole.convergence.observed import Figure, Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.capture.patches import Patches

MOST_CHARACTERS = 8_000_000  # of text kept; a progress bar may write for days
MOST_FIGURES = 500_000
# module that has to be imported, class in it, method, and how its arguments are read
SCALAR, SCALARS, DICTIONARY = "scalar", "scalars", "dictionary"
LOGGERS = (
    ("torch.utils.tensorboard.writer", "SummaryWriter", "add_scalar", SCALAR),
    ("torch.utils.tensorboard.writer", "SummaryWriter", "add_scalars", SCALARS),
    ("tensorboardX.writer", "SummaryWriter", "add_scalar", SCALAR),
    ("tensorboardX.writer", "SummaryWriter", "add_scalars", SCALARS),
    ("wandb.sdk.wandb_run", "Run", "log", DICTIONARY),
    ("wandb.sdk.lib.noop_run", "NoopRun", "log", DICTIONARY),  # mode="disabled"
)


class Listener:
    """Notes texts and figures; `now` gives the step and the time."""

    def __init__(self, now: Callable[[], tuple[int, int]], patches: Patches) -> None:
        self.texts: list[Text] = []
        self.figures: list[Figure] = []
        self.left_out = False  # more was said than is kept
        self._now = now
        self._patches = patches
        self._room = MOST_CHARACTERS
        self._watches = [
            ImportWatch(module, functools.partial(self._logger_is_there, *rest)) for module, *rest in _by_module()
        ]

    def start(self) -> None:
        for name in ("stdout", "stderr"):
            stream: Any = getattr(sys, name)
            if stream is not None and hasattr(stream, "__dict__"):
                self._patches.set(stream, "write", self._write(stream.write, name))
        self._patches.set(logging.Logger, "callHandlers", self._logged(logging.Logger.callHandlers))
        for watch in self._watches:
            watch.start()

    def stop(self) -> None:
        for watch in self._watches:
            watch.stop()

    def follow_returned(self, name: str) -> bool:
        """Follows what a function of the script returns, `evaluate` or `Trainer.evaluate`; False: there is none."""
        owner: Any = sys.modules["__main__"]
        *path, last = name.removesuffix("()").split(".")
        for part in path:
            owner = getattr(owner, part, None)
        function = getattr(owner, last, None)
        if not callable(function):
            return False

        @functools.wraps(function)
        def longpole_returned(*args: Any, **kwargs: Any) -> Any:
            value = function(*args, **kwargs)
            self._figure("returned", name, value)
            return value

        self._patches.set(owner, last, longpole_returned)
        return True

    def _write(self, write: Callable[[str], int], stream: str) -> Callable[[str], int]:
        def longpole_write(text: str) -> int:
            self.note(stream, text)
            return write(text)

        return longpole_write

    def _logged(self, call_handlers: Callable[..., None]) -> Callable[..., None]:
        """Records may go to a file alone. What a handler prints is noted again, at the same step: it counts once."""

        def longpole_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            try:
                self.note("logging", record.getMessage() + "\n")
            except Exception:  # a message that cannot be formatted is for its handler to complain about
                self.left_out = True
            call_handlers(logger, record)

        return longpole_handlers

    def note(self, stream: str, text: str) -> None:
        if len(text) > self._room:
            self.left_out = True
            return
        self._room -= len(text)
        self.texts.append(Text(*self._now(), stream, text))

    def _logger_is_there(self, ways: list[tuple[str, str, str]]) -> None:
        for module, dotted, how in ways:
            cls = getattr(sys.modules.get(module), dotted.partition(".")[0], None)
            method = dotted.partition(".")[2]
            if isinstance(cls, type) and hasattr(cls, method):
                self._patches.set(cls, method, self._logger(getattr(cls, method), how))

    def _logger(self, method: Callable[..., Any], how: str) -> Callable[..., Any]:
        @functools.wraps(method)
        def longpole_log(*args: Any, **kwargs: Any) -> Any:
            for name, value in _named(how, args[1:], kwargs):
                self._figure("logged", name, value)
            return method(*args, **kwargs)

        return longpole_log

    def _figure(self, source: str, name: str, value: object) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                self._figure(source, f"{name}.{key}" if source == "returned" else str(key), part)
        elif isinstance(value, (tuple, list)):
            for index, part in enumerate(value[:8]):
                self._figure(source, f"{name}.{index}", part)
        else:
            number = _number(value)
            if number is not None and len(self.figures) < MOST_FIGURES:
                self.figures.append(Figure(*self._now(), source, name, number))


def _by_module() -> list[tuple[str, list[tuple[str, str, str]]]]:
    modules = {module for module, *_ in LOGGERS}
    return [
        (module, [(module, f"{cls}.{method}", how) for name, cls, method, how in LOGGERS if name == module])
        for module in sorted(modules)
    ]


def _named(how: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, object]]:
    """Names and values in a logger's arguments."""
    given = [*args, None, None]
    first = given[0] if args else next((kwargs[key] for key in ("tag", "main_tag", "data") if key in kwargs), None)
    if how == DICTIONARY:
        return [(str(key), value) for key, value in first.items()] if isinstance(first, dict) else []
    second = (
        given[1]
        if len(args) > 1
        else next((kwargs[k] for k in ("scalar_value", "tag_scalar_dict") if k in kwargs), None)
    )
    if how == SCALARS:
        return [(f"{first}/{key}", value) for key, value in second.items()] if isinstance(second, dict) else []
    return [(str(first), second)]


def _number(value: object) -> float | None:
    """A figure as the logger itself would read it; None where it is none."""
    if isinstance(value, (bool, str, bytes)) or value is None:
        return None
    try:
        return float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, RuntimeError):
        return None
