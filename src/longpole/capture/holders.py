"""What Python object holds a tensor, and by which name of the script's it goes."""

from __future__ import annotations

import gc
import linecache
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from longpole.capture.frames import OURS, is_ours
from longpole.capture.growth_lines import Place, adding_lines
from longpole.capture.loop import is_torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import CodeType, FrameType

CONTAINERS = (list, dict, set, deque, tuple)
IS_FUNCTION = 0x1  # CO_OPTIMIZED: its locals have slots, and f_locals is a copy
MOST_DEPTH = 3  # of containers in containers
READS_LOCALS = frozenset({"locals", "vars", "eval", "exec", "dir", "_getframe", "currentframe"})
COPIES_STAY = sys.version_info < (3, 13)  # a frame keeps the copy of its locals that was asked for


@dataclass(frozen=True)
class Named:
    """A holder as the script calls it. `code` is the function whose local it is."""

    name: str
    kind: str  # list, dict, tensor, attribute of ...
    file: str | None = None
    code: CodeType | None = None

    @property
    def text(self) -> str:
        return f"{self.kind} `{self.name}`"


def container_of(thing: Any, hidden: Iterable[Any] = ()) -> Any:
    """The list, dict, set, deque or tuple that holds it; None where none does. `hidden` are ours."""
    ours = {id(found) for found in hidden}
    for found in gc.get_referrers(thing):
        if is_container(found) and id(found) not in ours:
            return found
    return None


def is_container(found: Any) -> bool:
    return isinstance(found, CONTAINERS) and not _is_namespace(found)


def is_attributes(found: Any) -> bool:
    """Whether it is the `__dict__` of an object: what is in it goes by the attribute's name."""
    if not isinstance(found, dict):
        return False
    return any(getattr(owner, "__dict__", None) is found for owner in gc.get_referrers(found))


def _is_namespace(found: Any) -> bool:
    return isinstance(found, dict) and "__builtins__" in found


def user_frames(frame: FrameType | None) -> list[FrameType]:
    """Frames of the script on this stack, innermost first."""
    found: list[FrameType] = []
    while frame is not None:
        if not is_ours(frame) and not is_torch(frame):
            found.append(frame)
        frame = frame.f_back
    return found


def name_of(thing: Any, frames: list[FrameType], hidden: Iterable[Any] = (), depth: int = 0) -> Named | None:
    """By which variable or attribute the script reaches it; through a container of containers, the outer one's."""
    for frame in frames:
        name = _name_in_frame(thing, frame)
        if name is not None:
            is_function = bool(frame.f_code.co_flags & IS_FUNCTION)
            return Named(name, type(thing).__name__, frame.f_code.co_filename, frame.f_code if is_function else None)
    main = sys.modules.get("__main__")
    spaces: list[tuple[dict[str, Any], str | None]] = [(frame.f_globals, frame.f_code.co_filename) for frame in frames]
    spaces.append((vars(main) if main is not None else {}, getattr(main, "__file__", None)))
    for space, file in spaces:
        for name, value in list(space.items()):
            if value is thing and not name.startswith("__"):
                return Named(name, type(thing).__name__, file)
    return _name_of_attribute(thing) or _name_through(thing, frames, hidden, depth)


def _name_in_frame(thing: Any, frame: FrameType) -> str | None:
    """A copy of a function's locals stays with its frame and would keep the script's tensors: it is emptied.

    It is the very one that `locals()` gives: a function that asks for it is left alone.
    """
    if READS_LOCALS & set(frame.f_code.co_names):
        return None
    space = frame.f_locals
    try:
        return next((name for name, value in list(space.items()) if value is thing), None)
    finally:
        if COPIES_STAY and frame.f_code.co_flags & IS_FUNCTION and space is not frame.f_globals:
            space.clear()


def _name_of_attribute(thing: Any) -> Named | None:
    for found in gc.get_referrers(thing):
        owners = gc.get_referrers(found) if isinstance(found, dict) else [found]
        for owner in owners:
            space = getattr(owner, "__dict__", None)
            if not isinstance(space, dict) or isinstance(owner, type) or type(owner).__module__.startswith(OURS):
                continue
            for name, value in list(space.items()):
                if value is thing and not _is_namespace(space):
                    module = sys.modules.get(type(owner).__module__)
                    kind = f"{type(thing).__name__} of {type(owner).__name__}"
                    return Named(name, kind, getattr(module, "__file__", None))
    return None


def _name_through(thing: Any, frames: list[FrameType], hidden: Iterable[Any], depth: int) -> Named | None:
    if depth >= MOST_DEPTH:
        return None
    outer = container_of(thing, hidden)
    return name_of(outer, frames, [*hidden, thing], depth + 1) if outer is not None else None


def lines_of(named: Named, frames: list[FrameType]) -> Iterator[tuple[str, Place]]:
    """File and place of each statement that adds to it; in the function whose local it is, else in the files around."""
    files = [named.file, *(frame.f_code.co_filename for frame in frames)]
    for file in dict.fromkeys(file for file in files if file):
        source = "".join(linecache.getlines(file))
        first, last = _span(named.code) if named.code is not None and file == named.file else (1, 1 << 30)
        places = adding_lines(source, named.name, first, last)
        yield from ((file, place) for place in places)
        if places:
            return


def _span(code: CodeType) -> tuple[int, int]:
    lines = [line for _, _, line in code.co_lines() if line]
    return code.co_firstlineno, max(lines, default=code.co_firstlineno)
