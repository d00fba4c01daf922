"""A script cannot tell that longpole started it: each is run by python and by `launch`, and both must agree."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from longpole.capture.launch import strip

if TYPE_CHECKING:
    from pathlib import Path

OURS = """
import sys
from longpole.capture import launch
name, *args = sys.argv[1:]
module = name == "-m"
target = launch.Target(args[0], args[1:], True) if module else launch.Target(name, args)
launch.leave(launch.run(target))
"""


def both(folder: Path, *args: str) -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    """Run by python, and by us."""
    commands = ([sys.executable, *args], [sys.executable, "-c", OURS, *args])
    options: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True, "timeout": 60}
    bare, ours = (subprocess.run(command, check=False, **options) for command in commands)
    return bare, ours


def same(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Runs both and compares everything that can be seen."""
    bare, ours = both(folder, *args)
    assert (ours.returncode, ours.stdout, ours.stderr) == (bare.returncode, bare.stdout, bare.stderr)
    return ours


def script(folder: Path, source: str, name: str = "train.py") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(textwrap.dedent(source))
    return name


def test_what_a_script_sees_of_itself(tmp_path: Path) -> None:
    script(
        tmp_path,
        """
        import sys, inspect, pickle
        import helper
        class Mine: pass
        print(sys.argv, sys.path[0], __file__, __name__, __spec__, __package__, __doc__)
        print(type(__builtins__).__name__, type(__loader__).__name__, __annotations__)
        print(sorted(globals()), sys.modules["__main__"].__dict__ is globals())
        print(pickle.loads(pickle.dumps(Mine())).__class__ is Mine, inspect.getsource(Mine).strip())
        print(sys.flags.optimize, helper.NAME)
        """,
        "sub/train.py",
    )
    script(tmp_path, "NAME = __name__", "sub/helper.py")
    found = same(tmp_path, "sub/train.py", "--lr", "1", "--", "-x")
    assert "['sub/train.py', '--lr', '1', '--', '-x']" in found.stdout


def test_a_script_behind_a_link(tmp_path: Path) -> None:
    script(tmp_path, "import sys; print(sys.path[0], __file__)", "real/train.py")
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "train.py")
    same(tmp_path, "link.py")


def test_a_module_with_relative_imports(tmp_path: Path) -> None:
    script(tmp_path, "", "pkg/__init__.py")
    script(tmp_path, "VALUE = 7", "pkg/parts.py")
    script(
        tmp_path,
        "import sys\nfrom .parts import VALUE\nprint(VALUE, __spec__.name, __package__, sys.argv[1:], sys.path[0])",
        "pkg/train.py",
    )
    assert same(tmp_path, "-m", "pkg.train", "-x", "--", "y").stdout.startswith("7 pkg.train pkg ['-x', '--', 'y']")


def test_a_folder_with_a_main(tmp_path: Path) -> None:
    script(tmp_path, "import sys; print(__name__, sys.argv)", "app/__main__.py")
    same(tmp_path, "app", "x")


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("", 0), ("None", 0), ("0", 0), ("3", 3), ("True", 1), ("256", 0), ("-1", 255), ("'no data'", 1), ("[1]", 1)],
)
def test_exit_codes(tmp_path: Path, code: str, exit_code: int) -> None:
    script(tmp_path, f"import sys\nprint('here')\nsys.exit({code})")
    assert same(tmp_path, "train.py").returncode == exit_code


def test_a_subclass_of_system_exit(tmp_path: Path) -> None:
    script(tmp_path, "class Done(SystemExit): pass\nraise Done(4)")
    assert same(tmp_path, "train.py").returncode == 4


def test_a_traceback_is_the_scripts_own(tmp_path: Path) -> None:
    script(
        tmp_path,
        """
        import json
        def read(text):
            try:
                return json.loads(text)
            except ValueError as error:
                raise RuntimeError("bad config") from error
        def main():
            try:
                read("{")
            except RuntimeError:
                {}["missing"]
        main()
        """,
    )
    found = same(tmp_path, "train.py")
    assert found.returncode == 1
    assert "longpole" not in found.stderr


def test_a_traceback_in_a_module(tmp_path: Path) -> None:
    script(tmp_path, "", "pkg/__init__.py")
    script(tmp_path, "def f():\n    raise ValueError('x')\nf()", "pkg/train.py")
    bare, ours = both(tmp_path, "-m", "pkg.train")
    assert ours.returncode == bare.returncode == 1
    assert ours.stderr.splitlines()[-3:] == bare.stderr.splitlines()[-3:]
    assert "longpole" not in ours.stderr


def test_a_script_with_a_syntax_error(tmp_path: Path) -> None:
    script(tmp_path, "def broken(:\n")
    assert same(tmp_path, "train.py").returncode == 1


def test_the_scripts_own_excepthook(tmp_path: Path) -> None:
    script(tmp_path, "import sys\nsys.excepthook = lambda *e: print('mine', e[0].__name__)\n1/0")
    assert "mine ZeroDivisionError" in same(tmp_path, "train.py").stdout


def test_ctrl_c_ends_as_python_ends(tmp_path: Path) -> None:
    """Killed by the signal, after the traceback and what the script left for its end."""
    script(
        tmp_path,
        """
        import atexit, os, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        atexit.register(print, "saved")
        os.kill(os.getpid(), signal.SIGINT)
        """,
    )
    found = same(tmp_path, "train.py")
    assert found.returncode == -2
    assert found.stdout == "saved\n"
    assert found.stderr.endswith("KeyboardInterrupt\n")


def test_threads_are_waited_for(tmp_path: Path) -> None:
    script(
        tmp_path,
        """
        import threading, time
        threading.Thread(target=lambda: (time.sleep(0.2), print("thread done"))).start()
        print("main done")
        """,
    )
    assert same(tmp_path, "train.py").stdout == "main done\nthread done\n"


@pytest.mark.parametrize("context", ["spawn", "fork", "forkserver"])
def test_child_processes(tmp_path: Path, context: str) -> None:
    script(
        tmp_path,
        f"""
        import multiprocessing as mp
        def square(n):
            return n * n
        if __name__ == "__main__":
            with mp.get_context("{context}").Pool(2) as pool:
                print(pool.map(square, range(4)))
        """,
    )
    assert same(tmp_path, "train.py").stdout == "[0, 1, 4, 9]\n"


def test_very_long_chains_of_causes_are_stripped() -> None:
    error: BaseException = ValueError(0)
    for number in range(5000):
        after = ValueError(number)
        after.__context__ = error
        error = after
    strip(error)
    first: BaseException = ValueError()
    first.__cause__ = first
    strip(first)
