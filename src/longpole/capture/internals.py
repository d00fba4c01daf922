"""The private names of torch that longpole uses, in one place: what to look at when a new torch comes.

Each has been there since torch 2.4 at least, but where None is said. A name that is gone fails when the recorder is
made, before any hook is in place: the script runs on, and longpole says that it could not measure.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportAttributeAccessIssue=false

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.utils.data.dataloader
from torch.autograd import profiler
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack, _pop_mode, _push_mode

if TYPE_CHECKING:
    from collections.abc import Callable

_autograd: Any = torch._C._autograd

# The next autograd node made on this thread gets this number.
sequence_number: Callable[[], int] = _autograd._get_sequence_nr
# The autograd node that runs on this thread; None in forward.
current_node: Callable[[], Any] = torch._C._current_autograd_node

push_saved_hooks: Callable[..., None] = _autograd._push_saved_tensors_default_hooks
pop_saved_hooks: Callable[[], None] = _autograd._pop_saved_tensors_default_hooks
# None in torch 2.4: `saved_hooks.HookStack` has another way there.
top_saved_hooks: Callable[[bool], Any] | None = getattr(_autograd, "_top_saved_tensors_default_hooks", None)
# False inside torch.func's transforms, and where the script has said so.
saved_hooks_allowed: Callable[[], bool] = _autograd._saved_tensors_hooks_is_enabled
# Where torch.func's transforms find `_saved_tensors_hooks_disable` and `_enable`.
AUTOGRAD: Any = _autograd
dispatch_modes: Callable[[], list[Any]] = _get_current_dispatch_mode_stack
pop_mode: Callable[[], Any] = _pop_mode
push_mode: Callable[[Any], None] = _push_mode

# torch.autograd.profiler.profile without the lists of events that it builds on leaving.
prepare_profiler: Callable[[Any], None] = profiler.profile._prepare_trace
start_profiler: Callable[[Any], None] = profiler.profile._start_trace
stop_profiler: Callable[[], Any] = torch.autograd._disable_profiler
after_profiler: Callable[[], None] = profiler._run_on_profiler_stop
# Events have had a type to tell since torch 2.5 at the earliest: `event_kinds` has another way.
events_tell_their_type = hasattr(_autograd._KinetoEvent, "activity_type")
CPU: Any = _autograd.DeviceType.CPU
CUDA: Any = _autograd.DeviceType.CUDA
is_profiling: Callable[[], bool] = torch.autograd._profiler_enabled

LoaderIterator: Any = torch.utils.data.dataloader._BaseDataLoaderIter
call_module: Callable[..., Any] = torch.nn.Module._wrapped_call_impl


def is_compiled(module: torch.nn.Module) -> bool:
    """Whether calling this module runs compiled code: `module.compile()`, or what `torch.compile` returned.

    Hot, and `hasattr` on a module that lacks the name costs microseconds: it raises inside.
    """
    return module._compiled_call_impl is not None or "_orig_mod" in module._modules


def is_mapped_over(tensor: torch.Tensor) -> bool:
    """Whether vmap stands round a tensor, within or without other transforms: its shape lacks a dimension."""
    transforms: Any = torch._C._functorch
    while transforms.is_functorch_wrapped_tensor(tensor):
        if transforms.is_batchedtensor(tensor):
            return True
        tensor = transforms.get_unwrapped(tensor)
    return False


def sequence_of(node: Any) -> int:
    """The number of an autograd node."""
    return node._sequence_nr()


def name_of(node: Any) -> str:
    """`AddmmBackward0`."""
    return node.name()


def storage_key(storage: Any) -> int:
    """The identity of a storage's memory block, as long as it lives."""
    return storage._cdata


def detached(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor.detach()`, unseen by modes of the script's. A tensor of a class of its own needs its class to know."""
    if type(tensor) in (torch.Tensor, torch.nn.Parameter):
        with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
            return tensor.detach()
    return tensor.detach()


def log_level() -> Any:
    """The level from which on torch's C++ code logs, a number that can be set: 1 warnings too, 2 errors only.

    None where this build has none that is seen from outside (torch 2.13: c10/util/Logging.cpp, built without glog).
    """
    folder = Path(torch.__file__).parent / "lib"
    library = next((folder / name for name in ("libc10.so", "libc10.dylib") if (folder / name).exists()), None)
    try:
        return ctypes.c_int.in_dll(ctypes.CDLL(str(library)), "FLAGS_caffe2_log_level") if library else None
    except (OSError, ValueError):
        return None
