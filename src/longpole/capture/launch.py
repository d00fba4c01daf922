"""Runs a script as `python` would, so that it cannot tell the difference. Imports no torch."""

from __future__ import annotations

import builtins
import io
import os
import runpy
import signal
import sys
import threading
import types
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from typing import TYPE_CHECKING, NoReturn

from longpole.capture.interpreter import run_exit_functions
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = __name__.partition(".")[0] + "."


@dataclass(frozen=True, slots=True)
class Target:
    """What to run: a path (a file, or a folder or archive with a __main__), or a module's name."""

    name: str
    args: Sequence[str] = ()
    is_module: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the script ended: the exit code it would have had, and the exception that nobody caught."""

    exit_code: int
    how: str  # "script end", "interrupt" or "error"
    error: BaseException | None = None


def check(target: Target) -> None:
    """Raises LongpoleError where there is no such script."""
    if not target.is_module and not os.path.exists(target.name):
        raise LongpoleError(f"no such script: {target.name} (looked in {os.getcwd()})")


def run(target: Target) -> Outcome:
    """Runs the script to its end, uncaught exceptions and non-daemon threads included. Prints its traceback."""
    try:
        _run_module(target) if target.is_module else _run_path(target)
        _join_threads()
    except SystemExit as error:
        return Outcome(_exit_code(error), "script end", error)
    except KeyboardInterrupt as error:
        _print(error)
        return Outcome(128 + signal.SIGINT, "interrupt", error)
    except BaseException as error:
        _print(error)
        return Outcome(1, "error", error)
    return Outcome(0, "script end")


def leave(outcome: Outcome) -> NoReturn:
    """Ends this process the way the script would have ended it."""
    if outcome.how == "interrupt":
        # Python ends in this way after Ctrl-C, too: what the script left for the end first, then the signal.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _join_threads()
        run_exit_functions()
        sys.stdout.flush()
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(outcome.exit_code)


def leave_forked(outcome: Outcome) -> NoReturn:
    """Like `leave`, from a child that the script forked: without C++'s own tidying up.

    torch's profiler starts a thread, which is not there after a fork; what stops it at the end of a process waits
    for it forever (torch 2.13, libkineto::ConfigLoader's destructor).
    """
    if outcome.how == "interrupt":
        leave(outcome)
    _join_threads()
    run_exit_functions()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(outcome.exit_code)


def _run_path(target: Target) -> None:
    sys.argv = [target.name, *target.args]
    path = os.path.abspath(target.name)
    if os.path.isdir(path) or (not path.endswith((".py", ".pyw")) and _is_archive(path)):
        runpy.run_path(target.name, run_name="__main__")
        return
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    main = types.ModuleType("__main__")
    loader = SourceFileLoader("__main__", path)
    main.__dict__.update(__file__=path, __builtins__=builtins, __spec__=None, __cached__=None, __loader__=loader)
    main.__annotations__ = {}
    sys.modules["__main__"] = main
    with io.open_code(path) as file:
        source = file.read()
    exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)


def _is_archive(path: str) -> bool:
    import zipfile

    return zipfile.is_zipfile(path)


def _run_module(target: Target) -> None:
    sys.argv = [target.name, *target.args]
    sys.path[0] = os.getcwd()
    runpy.run_module(target.name, run_name="__main__", alter_sys=True)


def _join_threads() -> None:
    """As the interpreter does before it exits: a script may train in a thread and let its main thread end."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _print(error: BaseException) -> None:
    """The script's traceback, without the frames that brought it here or stood in between."""
    strip(error)
    sys.excepthook(type(error), error, error.__traceback__)


def strip(error: BaseException) -> None:
    """Takes longpole's frames, and runpy's below them, out of the tracebacks of an exception and its causes."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:  # no recursion: retries make chains as long as they like
        found = waiting.pop()
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            found.__traceback__ = _without_ours(found.__traceback__)
            waiting += [found.__cause__, found.__context__, *getattr(found, "exceptions", ())]


def _without_ours(traceback: types.TracebackType | None) -> types.TracebackType | None:
    kept: list[types.TracebackType] = []
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if not name.startswith(OURS) and not (name == "runpy" and not kept):
            kept.append(traceback)
        traceback = traceback.tb_next
    if not kept:  # a syntax error in the script has no frame of its own
        return None
    for here, after in zip(kept, [*kept[1:], None], strict=True):
        here.tb_next = after
    return kept[0]
