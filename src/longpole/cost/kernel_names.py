"""Which class of work a device kernel is, and which gradient it makes, by patterns in its name.

Libraries name their kernels by what they compute. The table is read from the top and the first pattern
found decides, so the special stands before the general: `implicit_convolve_sgemm` is a convolution, and an
elementwise kernel that copies is data movement. Patterns of a row are separated by white space.
"""

from __future__ import annotations

import re
from functools import lru_cache

from longpole.cost.op_names import build_table
from longpole.trace import OpClass, Role

_TABLE: tuple[tuple[OpClass, str], ...] = (
    (
        OpClass.COLLECTIVE,
        r"""^(nccl|rccl|mscclpp|ncclx|oneccl) nccl(Dev)?Kernel multimem_(all|one_shot|two_shot|reduce) all_?reduce
        all_?gather reduce_?scatter [Tt]wo_?[Ss]hot_?[Aa]ll [Oo]ne_?[Ss]hot_?[Aa]ll cross_device_reduce deep_ep::
        internode:: intranode:: nvshmem ^userbuffers_ ^barrier_kernel""",
    ),
    (
        OpClass.DATA_MOVEMENT,
        r"^(Memcpy|Memset|memcpy|memset|[cC]opyBuffer|[fF]illBuffer|CopyHostTo|CopyDeviceTo|__amd_rocclr_|dma_request)",
    ),
    # Fused by torch.compile: the prefix says what loop it is (template, reduction, points, list of tensors).
    (OpClass.ATTENTION, r"^triton_tem_\w*attention"),
    (OpClass.CONVOLUTION, r"^triton_tem_\w*conv"),
    (OpClass.MATMUL, r"^triton_(tem|mm|bmm)_"),
    # A norm taken apart has its steps in the name, in the order of the alphabet: mean, pow, rsqrt.
    (OpClass.NORMALIZATION, r"^triton_(red|per)_\w*(layer_norm|rms_norm|batch_norm|group_norm|mean\w*_pow\w*_rsqrt)"),
    (OpClass.SOFTMAX_LOSS, r"^triton_(red|per)_\w*(softmax|nll_loss|cross_entropy)"),
    (OpClass.EMBEDDING, r"^triton_poi_fused_(embedding|embedding_dense_backward)(_\d+)?$"),
    (OpClass.REDUCTION, r"^triton_(red|per|split_scan)_"),
    (OpClass.ELEMENTWISE, r"^triton_poi_"),
    (OpClass.OPTIMIZER, r"^triton_for_"),
    (OpClass.COMPILED, r"^triton_(_|$)"),
    (
        OpClass.ATTENTION,
        r"""Batch(Decode|Prefill) Single(Decode|Prefill) PagedKV [Ff]lash_?(mla|fwd|bwd|attn|attention) FlashAttn
        pytorch_flash \bflash:: fmha FMHA Fmha(Fwd|Bwd)
        mem_eff AttentionKernel AttentionBackwardKernel attn_(fwd|bwd)
        bwd_(dk_dv|kernel_dk_dv|kernel_dq|kernel_fuse|preprocess)
        paged_attention unified_attention _attention_kernel sdpa sage_(fwd|attn) mha_fwd
        kernel_mha (?<![a-zA-Z])mla_ _fwd_(grouped_)?kernel_stage compute_dot_do_o rotary_ [a-z]_rope
        store_kv_?cache reshape_and_cache""",
    ),
    (
        OpClass.RECURRENT,
        r"""RNN LSTM GRU lstm_cell gru_cell rnn_ persistRNN selective_scan _chunk_(scan|state|cumsum)_ gated_delta_rule
        fused_recurrent_ chunk_(gla|kda|retention|linear_attn)""",
    ),
    (
        OpClass.OPTIMIZER,
        r"""multi_tensor_apply FusedAdam fused_adam adamw?_fused AdamFunctor SGDFunctor LAMBStage sgd_kernel adam_kernel
        kOptimizer\d lamb_(kernel|update)
        non_finite_check amp_update_scale""",
    ),
    (
        OpClass.NORMALIZATION,
        r"""batch_?norm BatchNorm (?<![a-zA-Z])bn_(fw|bw) welford layer_?norm LayerNorm [Rr]ms_?[Nn]orm RMSNorm qk_?norm
        RowwiseMoments group_?norm GroupNorm GammaBeta ln_(fwd|bwd) ComputeFusedParams ComputeBackwardFusedParams
        ComputeInternalGradients ComputeGradientFusedParams cuCompute(GradInput|PartGrad)
        WelfordOps norm_(fwd|bwd)""",
    ),
    (
        OpClass.SOFTMAX_LOSS,
        r"""soft_?max SoftMax Softmax nll_loss NLLCriterion entropy ctc_loss mse_(kernel|backward) smooth_l1 huber
        binary_cross_entropy kl_div MSECriterion MarginCriterion""",
    ),
    (
        OpClass.EMBEDDING,
        r"""[Ee]mbedding EmbeddingBag compute_grad_weight krn_partial sum_and_scatter permute_pooled_embs
        bounds_check_indices linearize_index""",
    ),
    (
        OpClass.POOLING,
        r"""_pool Pool adaptive_average upsample grid_sampler roi_align roi_pool RoiAlign nms_(kernel|impl)""",
    ),
    (
        OpClass.CONVOLUTION,
        r"""conv(?!ert) Conv(?!ert) scudnn dgrad wgrad implicit_gemm _fprop_ winograd Winograd igemm_(fwd|bwd|wrw)
        cask_cudnn im2col col2im Im2[Cc]ol Col2[Ii]m Im2d2Col fft[12]d_ xdlops_bwd_weight bwd_(data|weight) miopenSp3
        Sp3Asm depthwise Depthwise cudnn_(infer|train)_\w*gemm cudnn::gemm:: _gcgemm_ computeOffsets cudnn::cnn
        flip_filter gfx\d+_f\dx\d""",
    ),
    (
        OpClass.DATA_MOVEMENT,
        r"""nchwToNhwc nhwcToNchw nchwAddPadding batched_transpose ^transpose_ [Tt]ransposeKernel genericTranspose
        tensorTransform cudnn::ops scalePackedTensor copy_kernel direct_copy copy_device_to_device bfloat16_copy
        float8_copy CatArray FillFunctor fill_kernel index(Select|Add|Copy|Fill) index_elementwise index_kernel
        index_put indexing_backward gather_kernel gather_backward scatter_gather scatter_kernel _scatter_
        vectorized_gather masked_(scatter|select|gather) flip_kernel roll_cuda arange range_cuda triu_tril
        (reflection|replication|constant)_pad fbgemm_gpu:: permute_\w*kernel block_bucketize write_indices kv_indices
        nonzero
        DeviceSelect DeviceCompactInit _copy_page_indices CopyKernel split_with_sizes chunk_cat linspace
        repeat_interleave SubTensorOpWith recat_copy _copy_tensor moe_align_block jagged to_dense_ unfold put_kernel
        take_kernel pad_kernel MoeSorting moe_sorting _combined_routing _sum_bitmatrix expand_to_fused get_fused_mapping
        count_expert dispatch_layout compute_cuda_kernel compute_position alloc_\w*kernel future_token_ids""",
    ),
    (
        OpClass.RANDOM,
        r"""distribution_ dropout philox curand randperm bernoulli multinomial random_(from_to|kernel)
        SamplingFrom SamplingKernel""",
    ),
    (
        OpClass.MATMUL,
        r"""gemm GEMM Gemm gemv Cijk_ ^nvjet matmul _mm_kernel \bbmm_ cutlass::(device_)?[Kk]ernel [sS]plitK
        epilogue::impl::globalKernel cublas _tensorop_ magma_ dot_kernel trsm syrk getrf potrf cusolver moe::(?!\w*topk)
        [Ff]latmm fmoe [Mm]arlin machete fused_moe moe_stage w8a8 hmma spmm csrmm cusparse
        ^(XXT|XTX|ba_plus_cAA)_kernel""",
    ),
    (
        OpClass.REDUCTION,
        r"""[Rr]educe moe_sum gatherTopK topk TopK bitonic [Rr]adix_?[Ss]ort DeviceScan cub:: rocprim:: thrust::.*sort
        [Ss]ort scan_
        cumsum kthvalue median argmax argmin (regular|vector|multi)_fft histogram mode_kernel unique norm_kernel""",
    ),
    (
        OpClass.ELEMENTWISE,
        r"""elementwise Elementwise pointwise Pointwise act_and_mul gelu silu relu sigmoid tanh add_kernel mul_kernel
        threshold [Qq]uantize fp8_quant _quant(_|\b) swiglu gated_act cast_(to|back|and|transpose) tensorTensorOp
        Op[1-5]dTensor op_generic_tensor bias_add
        where_kernel masked_fill clamp_ bias_rescale""",
    ),
)
_PATTERNS = tuple((op_class, re.compile("|".join(patterns.split()))) for op_class, patterns in _TABLE)

_ROLES: tuple[tuple[Role, re.Pattern[str]], ...] = (
    (Role.WEIGHT_GRAD, re.compile(r"wgrad|Wgrad|bwd_weight|[Bb]ackward_?[Ww]eight|igemm_wrw|_wrw_|BackwardFilter")),
    (Role.INPUT_GRAD, re.compile(r"dgrad|Dgrad|bwd_data|[Bb]ackward_?[Dd]ata|igemm_bwd|BwdData|backward_input")),
)


# MTIA names its work by the operator and the type of its result: `aten::mean.out-dtype_Float`, `fc-dtype_Half`.
_OF_OPERATOR = re.compile(r"^(?:aten::)?(?P<op>\w+?)(?:_kernel)?(?:\.\w+)?-dtype_")
_OPERATORS = {**build_table(), "fc": OpClass.MATMUL, "bce_with_logits": OpClass.SOFTMAX_LOSS}


@lru_cache(maxsize=65536)
def classify_kernel(name: str) -> OpClass | None:
    """The class of a device kernel, copy or fill, or None where no pattern knows it."""
    named = _OF_OPERATOR.match(name)
    if named is not None and named["op"] in _OPERATORS:
        return _OPERATORS[named["op"]]
    for op_class, pattern in _PATTERNS:
        if pattern.search(name):
            return op_class
    return None


@lru_cache(maxsize=65536)
def kernel_role(name: str) -> Role | None:
    """INPUT_GRAD or WEIGHT_GRAD where the name says so (`dgrad`, `wgrad`, `bwd_data`, `igemm_wrw`), else None."""
    for role, pattern in _ROLES:
        if pattern.search(name):
            return role
    return None
