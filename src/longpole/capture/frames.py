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


def _folders(*names: str) -> tuple[str, ...]:
    paths = {sysconfig.get_path(name) for name in names}
    if "purelib" in names:
        paths |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(os.path.realpath(path) + os.sep for path in paths if path)


# The function round a comprehension says more than the comprehension does.
NAMELESS = frozenset({"<listcomp>", "<genexpr>", "<setcomp>", "<dictcomp>", "<lambda>"})
PACKAGES = _folders("purelib", "platlib")
LIBRARIES = (*PACKAGES, *_folders("stdlib", "platstdlib"))


@lru_cache(maxsize=4096)
def is_users(filename: str) -> bool:
    """Whether a source file is the user's own: neither installed nor Python's nor made up."""
    if filename.startswith("<") and not filename.startswith("<ipython"):
        return False
    return not os.path.realpath(filename).startswith(LIBRARIES)


def is_plumbing(frame: FrameType) -> bool:
    """A frame that names no place: torch's, Python's own, ours, or a comprehension inside a function."""
    code = frame.f_code
    if code.co_name in NAMELESS or is_ours(frame):
        return True
    return not is_users(code.co_filename) and not is_package(code.co_filename)


@lru_cache(maxsize=4096)
def is_package(filename: str) -> bool:
    """Whether a source file belongs to an installed package other than torch: a trainer, perhaps."""
    path = os.path.realpath(filename)
    return path.startswith(PACKAGES) and not path.startswith(tuple(folder + "torch" + os.sep for folder in PACKAGES))


def user_place(frame: FrameType, loop: frozenset[CodeType] = frozenset()) -> tuple[CodeType, int]:
    """The innermost of the user's own lines on this stack, but not outside of the training loop.

    Where a library runs the loop (`trainer.train()`), the user's line that started it says nothing, and the
    innermost line of the library is named.
    """
    library: FrameType | None = None
    at: FrameType | None = frame
    while at is not None:
        if not is_plumbing(at):
            if is_users(at.f_code.co_filename):
                return at.f_code, at.f_lineno or 0
            library = library or at
        if at.f_code in loop and library is not None:
            return library.f_code, library.f_lineno or 0
        at = at.f_back
    found = library or frame
    return found.f_code, found.f_lineno or 0


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
