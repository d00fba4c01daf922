"""Which device kernels communicate, by name: a table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Matched anywhere in the lower-case name. Libraries whose kernels only communicate: their time is what every
# tool calls communication, and what `communication` in a timeline means.
LIBRARIES: Sequence[tuple[str, str]] = (
    ("nccl", "NCCL and ncclx (github.com/NVIDIA/nccl, github.com/meta-pytorch/torchcomms)"),
    ("rccl", "RCCL (github.com/ROCm/rccl)"),
    ("oneccl", "oneCCL (github.com/uxlfoundation/oneCCL)"),
    ("hccl", "HCCL (Gaudi and Ascend)"),
)
# Kernels that frameworks wrote for themselves. They move data between devices too, but some also compute
# (an all-reduce fused with a normalization): they count as compute in a timeline, and are named apart.
CUSTOM: Sequence[tuple[str, str]] = (
    (
        r"cross_device_reduce",
        "vLLM and SGLang custom all-reduce (github.com/vllm-project/vllm, csrc/custom_all_reduce.cuh)",
    ),
    (r"deep_?ep::|internode::|intranode::", "DeepEP (github.com/deepseek-ai/DeepEP, csrc/kernels)"),
    (r"mscclpp|msccl::", "MSCCL++ (github.com/microsoft/mscclpp)"),
    (r"(one|two)_?shot_?all_?reduce", "PyTorch symmetric memory (torch/csrc/distributed/c10d/symm_mem)"),
    (r"multimem_(all_reduce|all_gather|one_shot|reduce_scatter)", "PyTorch symmetric memory, NVLink multicast"),
    (r"userbuffers|all_?reduce_?fusion|allreduce_fusion_kernel", "Transformer Engine and FlashInfer, TensorRT-LLM"),
    (r"lamport.*(all_?reduce|allreduce)|all_?reduce.*lamport", "TensorRT-LLM low-latency all-reduce"),
    (r"quick_?reduce|aiter::.*(all_?reduce|all_?gather)", "AMD quick reduce and AITER (github.com/ROCm/aiter)"),
    (r"nvshmem", "NVSHMEM (github.com/NVIDIA/nvshmem)"),
    (r"rocshmem", "rocSHMEM (github.com/ROCm/rocSHMEM)"),
    (
        r"(^|[^a-z])(all_?reduce|all_?gather|reduce_?scatter|all_?to_?all)(_|\d)*(kernel|bf16|fp16|$|<|\()",
        "by its own name",
    ),
)
_LIBRARY = re.compile("|".join(pattern for pattern, _ in LIBRARIES))
_CUSTOM = re.compile("|".join(f"(?:{pattern})" for pattern, _ in CUSTOM))


def is_communication(name: str) -> bool:
    """Whether a kernel of this name belongs to a communication library."""
    return _LIBRARY.search(name.lower()) is not None


def is_custom_communication(name: str) -> bool:
    """Whether a kernel of this name communicates without belonging to such a library."""
    return _CUSTOM.search(name.lower()) is not None and not is_communication(name)
