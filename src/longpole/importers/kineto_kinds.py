"""What each category word of a Kineto trace means, of every age and device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.trace.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

# Lower case. Words: libkineto's ActivityType.cpp (github.com/pytorch/kineto, libkineto/src/ActivityType.cpp)
# and, without underscores, what PyTorch 1.8 wrote.
KINDS: Mapping[str, Kind] = {
    "cpu_op": Kind.OP,
    "operator": Kind.OP,
    "kernel": Kind.KERNEL,
    "concurrent_kernel": Kind.KERNEL,
    "mtia_ccp_events": Kind.KERNEL,  # work of MTIA's command processor
    "gpu_memcpy": Kind.MEMCPY,
    "memcpy": Kind.MEMCPY,
    "gpu_memset": Kind.MEMSET,
    "memset": Kind.MEMSET,
    "cuda_runtime": Kind.RUNTIME,  # also HIP's
    "cuda_driver": Kind.RUNTIME,
    "runtime": Kind.RUNTIME,
    "hip_runtime": Kind.RUNTIME,
    "xpu_runtime": Kind.RUNTIME,
    "xpu_driver": Kind.RUNTIME,
    "mtia_runtime": Kind.RUNTIME,
    "glow_runtime": Kind.RUNTIME,
    "hpu_op": Kind.RUNTIME,  # "HPU host side runtime event"
    "privateuse1_runtime": Kind.RUNTIME,
    "privateuse1_driver": Kind.RUNTIME,
    "cuda_sync": Kind.SYNC,
    "xpu_sync": Kind.SYNC,
    "cuda_event": Kind.SYNC,
    "graph_event_node": Kind.SYNC,  # an event recorded inside a CUDA graph
    "user_annotation": Kind.ANNOTATION,
    "gpu_user_annotation": Kind.DEVICE_ANNOTATION,
    "mtia_user_annotation": Kind.DEVICE_ANNOTATION,
    "python_function": Kind.PYTHON,
    "collective_comm": Kind.COLLECTIVE,
    "overhead": Kind.OTHER,
    "external_correlation": Kind.OTHER,
    "mtia_insight": Kind.OTHER,
    "gpu_pm_counter": Kind.OTHER,
    "cuda_profiler_range": Kind.OTHER,
    "mtia_counters": Kind.OTHER,
}
SPAN_OF_WHOLE_TRACE = ("trace", "spans")  # not an event of the run
# The exporter in Python (torch.autograd.profiler, without Kineto) writes no category, but this process.
PROCESS_KINDS: Mapping[str, Kind] = {"CPU functions": Kind.OP, "CUDA functions": Kind.KERNEL}
LAUNCH_FLOWS = frozenset(("ac2g", "async_cpu_to_gpu", "async_gpu", "async", "cpu_to_cuda", "cpu_to_gpu"))
GRADIENT_FLOWS = ("fwdbwd", "forward_backward")
COLLECTIVE_OPS = ("record_param_comms",)
COLLECTIVE_ANNOTATIONS = ("nccl:", "rccl:", "gloo:", "mpi:", "ucc:", "xccl:", "hccl:", "c10d::")

# Ops whose cost depends on values that shapes do not tell: strides, paddings, whether causal, rows of a table.
_NEED_VALUES = ("conv", "attention", "pool", "embedding_dense_backward", "index_select")


def needs_values(op: str) -> bool:
    """Whether an op's "Concrete Inputs" are kept; they are most of what ops are told, and few have a use."""
    return any(word in op for word in _NEED_VALUES)


def lane_sort(kind: int) -> int:
    """Events that may share a lane: 0 host threads, 1 device streams, 2 waits, 3 device annotations, 4 others."""
    return _LANE_SORTS.get(Kind(kind), 0)


_LANE_SORTS = {
    Kind.OP: 0,
    Kind.RUNTIME: 0,
    Kind.ANNOTATION: 0,
    Kind.PYTHON: 0,
    Kind.COLLECTIVE: 0,
    Kind.KERNEL: 1,
    Kind.MEMCPY: 1,
    Kind.MEMSET: 1,
    Kind.SYNC: 2,
    Kind.DEVICE_ANNOTATION: 3,
    Kind.OTHER: 4,
}
