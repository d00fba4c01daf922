"""What a measurement could leave behind in the process: a cheap picture of it before and after, and the differences.

Never imports torch. Where a test imports it for the first time there is no picture from before, and then only what
carries longpole's own name is found.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# Whose functions and methods are compared one by one: everything that capture replaces, and what stands beside it.
PATCHABLE = (
    "builtins",
    "os",
    "runpy",
    "multiprocessing.process.BaseProcess",
    "subprocess.Popen",
    "threading.Thread",
    "torch",
    "torch.Tensor",
    "torch.amp.grad_scaler.GradScaler",
    "torch.autograd",
    "torch.autograd.function.Function",
    "torch.cuda",
    "torch.multiprocessing",
    "torch.nn.Module",
    "torch.nn.functional",
    "torch.nn.parallel.DistributedDataParallel",
    "torch.nn.utils",
    "torch.nn.utils.clip_grad",
    "torch.optim.Optimizer",
    "torch.optim.lr_scheduler.LRScheduler",
    "torch.serialization",
    "torch.utils.checkpoint",
    "torch.utils.data.DataLoader",
    "torch.utils.data.dataloader",
    "torch.utils.data.dataloader._BaseDataLoaderIter",
    "torch.utils.data.dataloader._MultiProcessingDataLoaderIter",
    "torch.utils.data.dataloader._SingleProcessDataLoaderIter",
)
# Tables of hooks that hold for every module or optimizer of the process.
HOOK_TABLES = (
    "torch.nn.modules.module._global_backward_hooks",
    "torch.nn.modules.module._global_backward_pre_hooks",
    "torch.nn.modules.module._global_buffer_registration_hooks",
    "torch.nn.modules.module._global_forward_hooks",
    "torch.nn.modules.module._global_forward_pre_hooks",
    "torch.nn.modules.module._global_module_registration_hooks",
    "torch.nn.modules.module._global_parameter_registration_hooks",
    "torch.optim.optimizer._global_optimizer_post_hooks",
    "torch.optim.optimizer._global_optimizer_pre_hooks",
)
SIGNALS = ("SIGALRM", "SIGHUP", "SIGINT", "SIGPROF", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGVTALRM")
THREAD_GRACE_S = 2.0


@dataclass
class Picture:
    """Keys say where; values compare by identity or, for plain settings, by equality."""

    functions: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)
    threads: set[threading.Thread] = field(default_factory=set)


def take() -> Picture:
    functions = {f"{owner}.{name}": value for owner in PATCHABLE for name, value in _functions_of(owner)}
    classes = {owner for owner in PATCHABLE if isinstance(_loaded(owner), type)}
    return Picture(functions, {**_interpreter_settings(), **_torch_settings()}, classes, set(threading.enumerate()))


def differences(before: Picture) -> list[str]:
    """A line for everything that is not as it was; threads get a moment to end."""
    after = take()
    found: list[str] = []
    for where, value in after.functions.items():
        if where not in before.functions and (where.rpartition(".")[0] in before.classes or is_ours(value)):
            found.append(f"{where} was added, {value!r}")
        elif before.functions.get(where, value) is not value and not _is_torchs_own(value):
            found.append(f"{where} was replaced by {value!r}")
    found += [f"{where} is gone" for where in before.functions.keys() - after.functions.keys()]
    for what, value in after.settings.items():
        expected = before.settings.get(what, NORMAL.get(what, value))
        if value != expected:
            found.append(f"{what} was {expected!r} and is {value!r}")
    return found + _strangers() + [f"thread {thread.name} still runs" for thread in _new_threads(before.threads)]


# What holds where torch came in only after the first picture.
NORMAL: dict[str, Any] = {
    "dispatch modes": 0,
    "function modes": 0,
    "grad mode": True,
    "profiler on": False,
    "saved-tensor hooks": None,
    **dict.fromkeys(HOOK_TABLES, ()),
}


def is_ours(value: Any) -> bool:
    """Whether a function, a method, a partial or an instance comes from longpole."""
    for inner in ("__func__", "func", "fget"):
        value = getattr(value, inner, value)
    if _is_code_of("longpole", value) or _is_code_of("longpole", getattr(value, "__wrapped__", None)):
        return True
    return str(getattr(value, "__module__", type(value).__module__)).split(".")[0] == "longpole"


def _is_torchs_own(value: Any) -> bool:
    """torch wraps functions of its own when dynamo is first imported, torch.manual_seed for one."""
    return _is_code_of("torch", value) and not is_ours(value)


def _is_code_of(package: str, value: Any) -> bool:
    """functools.wraps copies __module__, but the code object still knows its file."""
    code = getattr(value, "__code__", None)
    if code is None or package not in sys.modules:
        return False
    return Path(str(sys.modules[package].__file__)).parent in Path(code.co_filename).parents


def _loaded(path: str) -> Any:
    """The object at a dotted path if all of it is imported already, else None."""
    parts = path.split(".")
    for cut in range(len(parts), 0, -1):
        found: Any = sys.modules.get(".".join(parts[:cut]))
        if found is not None:
            for name in parts[cut:]:
                found = vars(found).get(name)
                if found is None:
                    return None
            return found
    return None


def _functions_of(owner: str) -> Iterator[tuple[str, Any]]:
    space = _loaded(owner)
    if space is not None:
        for name, value in list(vars(space).items()):
            if callable(value) or isinstance(value, (staticmethod, classmethod, property)):
                yield name, value


def _interpreter_settings() -> dict[str, Any]:
    settings: dict[str, Any] = {
        "sys.gettrace()": sys.gettrace(),
        "sys.getprofile()": sys.getprofile(),
        "sys.getswitchinterval()": sys.getswitchinterval(),
        "sys.getrecursionlimit()": sys.getrecursionlimit(),
        "sys.argv": tuple(sys.argv),
        "sys.excepthook": sys.excepthook,
        "sys.modules['__main__']": id(sys.modules["__main__"]),
        "gc.isenabled()": gc.isenabled(),
        "gc.get_threshold()": gc.get_threshold(),
        "timers": (signal.getitimer(signal.ITIMER_REAL)[1], signal.getitimer(signal.ITIMER_PROF)[1]),
    }
    for name in SIGNALS:
        settings[name] = signal.getsignal(getattr(signal, name))
    return settings


def _torch_settings() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "autograd"):
        return {}
    settings: dict[str, Any] = {path: tuple(table) for path in HOOK_TABLES if (table := _loaded(path)) is not None}
    settings["profiler on"] = torch._C._autograd._profiler_enabled()
    settings["dispatch modes"] = torch._C._len_torch_dispatch_stack()
    settings["function modes"] = torch._C._len_torch_function_stack()
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)  # torch 2.4 does not tell
    settings["saved-tensor hooks"] = top and top(True)
    settings["grad mode"] = torch.is_grad_enabled()
    settings["torch threads"] = torch.get_num_threads()
    return settings


def _strangers() -> list[str]:
    """Ours in lists that others use too: pytest, hypothesis and six put things of their own there."""
    lists = {"sys.meta_path": sys.meta_path, "sys.path_hooks": sys.path_hooks, "gc.callbacks": gc.callbacks}
    return [f"{name} holds {value!r}" for name, values in lists.items() for value in values if is_ours(value)]


def _new_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    deadline = time.monotonic() + THREAD_GRACE_S
    new = [thread for thread in threading.enumerate() if thread not in before]
    while new and time.monotonic() < deadline:
        new[0].join(timeout=0.05)
        new = [thread for thread in new if thread.is_alive()]
    return new
