"""Names for places in the user's source: `train.py:41 in fetch_batch`."""

from __future__ import annotations

import os
import site
import sysconfig
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType


OURS = __name__.rpartition(".capture")[0]  # the package's own frames are nobody's training loop


def is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return isinstance(name, str) and (name == OURS or name.startswith(OURS + "."))


def _library_folders() -> tuple[str, ...]:
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(os.path.realpath(path) + os.sep for path in paths if path)


# The function round a comprehension says more than the comprehension does.
NAMELESS = frozenset({"<listcomp>", "<genexpr>", "<setcomp>", "<dictcomp>", "<lambda>"})
LIBRARIES = _library_folders()


@lru_cache(maxsize=4096)
def is_users(filename: str) -> bool:
    """Whether a source file is the user's own: neither installed nor Python's nor made up."""
    if filename.startswith("<") and not filename.startswith("<ipython"):
        return False
    return not os.path.realpath(filename).startswith(LIBRARIES)


def user_place(frame: FrameType) -> tuple[CodeType, int]:
    """The innermost of the user's own lines on this stack; the innermost line of all where none is his."""
    at: FrameType | None = frame
    while at is not None:
        if is_users(at.f_code.co_filename) and at.f_code.co_name not in NAMELESS and not is_ours(at):
            return at.f_code, at.f_lineno or 0
        at = at.f_back
    return frame.f_code, frame.f_lineno or 0


def describe(code: CodeType, line: int) -> str:
    """`train.py:41 in fetch_batch`, the path as short as it can be given from here."""
    path = code.co_filename
    try:
        relative = os.path.relpath(path)
    except ValueError:
        relative = path
    shown = relative if not relative.startswith("..") else _tail(path)
    return f"{shown}:{line}" + ("" if code.co_name == "<module>" else f" in {code.co_name}")


def _tail(path: str) -> str:
    """The part below site-packages, else the file's name: nobody needs the rest of the path."""
    for folder in LIBRARIES:
        if path.startswith(folder):
            return path[len(folder) :]
    return os.path.basename(path)
