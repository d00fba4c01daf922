"""What kind of event Kineto recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longpole.capture import internals
from longpole.trace.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = {
    "cpu_op": Kind.OP,
    "user_annotation": Kind.ANNOTATION,
    "python_function": Kind.PYTHON,
    "kernel": Kind.KERNEL,
    "concurrent_kernel": Kind.KERNEL,
    "gpu_memcpy": Kind.MEMCPY,
    "gpu_memset": Kind.MEMSET,
    "gpu_user_annotation": Kind.DEVICE_ANNOTATION,
    "cuda_runtime": Kind.RUNTIME,
    "cuda_driver": Kind.RUNTIME,
    "xpu_runtime": Kind.RUNTIME,
    "privateuse1_runtime": Kind.RUNTIME,
    "cuda_sync": Kind.SYNC,
}
ON_DEVICE = (Kind.KERNEL, Kind.MEMCPY, Kind.MEMSET, Kind.DEVICE_ANNOTATION, Kind.SYNC)
USER_SCOPE = 7  # torch's RecordScope, record_function.h
RUNTIMES = ("cuda", "cu", "hip")  # followed by a capital: cudaLaunchKernel, cuLaunchKernelEx, hipMemcpyAsync


def kind_as_told(event: Any) -> Kind:
    return KINDS.get(event.activity_type(), Kind.OTHER)


def kind_by_signs(event: Any) -> Kind:
    """Where torch (2.4) does not tell an event's type: by its device, its scope and its name."""
    name: str = event.name()
    if event.device_type() != internals.CPU:
        copies = {"Memcpy": Kind.MEMCPY, "Memset": Kind.MEMSET}
        return copies.get(name[:6], Kind.KERNEL)
    if any(name.startswith(prefix) and name[len(prefix) :][:1].isupper() for prefix in RUNTIMES):
        return Kind.RUNTIME
    return Kind.ANNOTATION if event.scope() == USER_SCOPE else Kind.OP


kind_of: Callable[[Any], Kind] = kind_as_told if internals.events_tell_their_type else kind_by_signs
