"""Which class of work an operator or a device kernel is, by its name; None where the name is not known.

`classify_op` is for the names of host threads (`aten::addmm`, `c10d::allreduce_`, `AddmmBackward0`),
`classify_kernel` and `kernel_role` (re-exported) for those of device streams. Nothing falls back to
"elementwise": an unknown name is None, and reports list it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from longpole.cost.kernel_names import classify_kernel, kernel_role
from longpole.cost.op_names import VIEWS_AND_QUERIES, build_table
from longpole.trace import OpClass

__all__ = ["class_of_children", "classify_kernel", "classify_op", "kernel_role"]

_TABLE = build_table()
_VIEWS = frozenset(VIEWS_AND_QUERIES.split())

# Operators whose inner operators are their own doing: a lookup's `index_select` is the embedding.
_WHOLE = {
    "aten::embedding": OpClass.EMBEDDING,
    "aten::embedding_dense_backward": OpClass.EMBEDDING,
    "aten::_embedding_bag": OpClass.EMBEDDING,
    "aten::_embedding_bag_backward": OpClass.EMBEDDING,
    "aten::_embedding_bag_forward_only": OpClass.EMBEDDING,
    "aten::_slow_conv2d_forward": OpClass.CONVOLUTION,
    "aten::_slow_conv2d_backward": OpClass.CONVOLUTION,
    "aten::_ctc_loss": OpClass.SOFTMAX_LOSS,
    "aten::_ctc_loss_backward": OpClass.SOFTMAX_LOSS,
}

# Names that are no `aten::` operator: the first row with a pattern that is found decides.
_QUANTIZED = r"^(quantized|_quantized|onednn|mkldnn|mkldnn_prepacked|mkl|sparse)::"
_OTHERS: tuple[tuple[OpClass, tuple[str, ...]], ...] = (
    (
        OpClass.COLLECTIVE,
        (
            r"^(gloo|nccl|rccl|mpi|ucc|xccl|hccl|c10d|_c10d_functional(_autograd)?|symm_mem|_dtensor):",
            r"^record_param_comms$",
            r"^(All2All|AllGather|ReduceScatter)\w*_(Req|Wait)$",
            r"^vllm::(all_reduce|all_gather|reduce_scatter)",
        ),
    ),
    (
        OpClass.COMPILED,
        (
            r"^CompiledFunction(Backward)?\d*$",
            r"Call CompiledFxGraph",
            r"^Torch-Compiled Region",
            r"^(graph_\d+_)?cpp_fused_",
        ),
    ),
    (
        OpClass.HOST,
        (
            r"^(autograd::engine::|torch::autograd::|torch::jit::|profiler::|prim::|inductor::|triton_)",
            r"Backward\d*$",
            r"^(Optimizer\.(step|zero_grad)#|enumerate\(DataLoader\)#|ProfilerStep[#*]|AccumulateGrad$)",
            r"^(TorchDynamo|Pregraph bytecode|AOTDispatcher|<(forward|backward) op>$)",
            r"^((DistributedDataParallel|FullyShardedDataParallel|DataParallel)\.|FSDP::)",
            r"^(cuda|hip|cu|hsa|xpu)[A-Z]\w+$",  # calls into a device runtime
        ),
    ),
    (
        OpClass.ATTENTION,
        (
            r"^(flash_attn\w*|flashattn\w*|xformers\w*|fmha|sageattn\w*)::",
            r"^(FlashAttn\w*Func$|vllm::unified_attention)",
        ),
    ),
    (
        OpClass.DATA_MOVEMENT,
        (
            _QUANTIZED + r".*(pack|reorder|serialized|cat)",
            r"^torch(::|\.)distributed(\.ddp\.|::)reducer::",
            r"^(_C_cache_ops::)",
        ),
    ),
    (OpClass.MATMUL, (_QUANTIZED + r".*(linear|matmul)", r"::(scaled_|grouped_)?mm(_backward)?$")),
    (OpClass.CONVOLUTION, (_QUANTIZED + r"_?q?conv", r"^torchvision::_?deform_conv")),
    (OpClass.RECURRENT, (_QUANTIZED + r".*(lstm|gru|rnn)", r"^quantized::make_quantized_cell_params")),
    (OpClass.EMBEDDING, (_QUANTIZED + r".*embedding", r"^(fbgemm|fb)::.*(embedding|pooled_embs)")),
    (OpClass.NORMALIZATION, (_QUANTIZED + r".*(batch|layer|group|instance)_norm", r"^_C::(fused_add_)?rms_norm")),
    (OpClass.SOFTMAX_LOSS, (_QUANTIZED + r".*softmax",)),
    (OpClass.POOLING, (_QUANTIZED + r".*pool", r"^torchvision::(nms|_?(ps_)?roi_(align|pool))")),
    (
        OpClass.ELEMENTWISE,
        (
            _QUANTIZED + r"q?(add|mul|hardswish|celu|leaky_relu|sigmoid|relu|threshold|elu|prelu|clamp)",
            r"^_C::(rotary_embedding|\w*quant|silu_and_mul|gelu)",
        ),
    ),
    (OpClass.DATA_MOVEMENT, (r"^(fbgemm|fb)::",)),
)
_RULES = tuple((re.compile("|".join(patterns)), op_class) for op_class, patterns in _OTHERS)
_SUFFIXES = ("_backward", "_backward_data", "_backward_cuda", "_backward_input", "_forward", "_out", "_outf")


@lru_cache(maxsize=65536)
def classify_op(name: str) -> OpClass | None:
    """The class of an event of a host thread, or None; HOST where it only dispatches to others."""
    if name.startswith("aten::"):
        return _classify_aten(name[6:].split(".", maxsplit=1)[0])
    for pattern, op_class in _RULES:
        if pattern.search(name):
            return op_class
    # Old traces name a few views without their namespace (`detach`).
    return OpClass.HOST if name.rstrip("_") in _VIEWS else None


def class_of_children(name: str) -> OpClass | None:
    """The class that operators inside this one belong to, where they are its own work, else None."""
    return _WHOLE.get(name)


def _classify_aten(base: str) -> OpClass | None:
    if base in _TABLE:
        return _TABLE[base]
    if base.endswith("_") and not base.endswith("__"):
        return _classify_aten(base[:-1])
    if base.startswith("_foreach_"):
        return OpClass.OPTIMIZER
    if base.startswith("special_"):
        return _TABLE.get(base[8:], OpClass.ELEMENTWISE)
    if base.endswith("_copy") and base[:-5] in _VIEWS | {"split"}:
        return OpClass.DATA_MOVEMENT
    return _of_forward(base)


def _of_forward(base: str) -> OpClass | None:
    """The class of the operator whose `_backward` or `_out` form this is; a wrapper's does not follow it."""
    for suffix in _SUFFIXES:
        found = _TABLE.get(base[: -len(suffix)]) if base.endswith(suffix) else None
        if found not in (None, OpClass.HOST):
            return found
    return None
