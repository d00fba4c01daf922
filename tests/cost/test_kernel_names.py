"""Names of device kernels, one of each library, and the share of real traces that stays unknown."""

from __future__ import annotations

import pytest

from longpole.cost.op_classes import classify_kernel, kernel_role
from longpole.trace import OpClass, Role


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("volta_sgemm_128x64_nn", OpClass.MATMUL),
        ("ampere_sgemm_128x64_tn", OpClass.MATMUL),
        ("void flashinfer::BatchDecodeWithPagedKVCacheKernel<...>", OpClass.ATTENTION),
        ("void flashinfer::norm::RMSNormKernel<8, float>", OpClass.NORMALIZATION),
        ("void flashinfer::activation::act_and_mul_kernel<float>", OpClass.ELEMENTWISE),
        ("void vllm::cross_device_reduce_1stage<float, 8>", OpClass.COLLECTIVE),
        ("void transformer_engine::cast_transpose_general_kernel", OpClass.ELEMENTWISE),
        ("kOptimizer32bit2State<float, 0>", OpClass.OPTIMIZER),
        ("selective_scan_fwd_kernel", OpClass.RECURRENT),
        ("_ZN7ck_tile6kentryILi1ENS_12Rmsnorm2dFwdI", OpClass.NORMALIZATION),
        ("void cuda::swiglu_backward<__nv_bfloat16>", OpClass.ELEMENTWISE),
        ("fused_softcapped_entropy_bwd_kernel_0", OpClass.SOFTMAX_LOSS),
        ("ck_moe_stage1_kernel<BF16, 128, 128>", OpClass.MATMUL),
        ("nvjet_tst_256x128_64x4_1x2_h_bz_coopA_NNT", OpClass.MATMUL),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x64x64_cublas", OpClass.MATMUL),
        ("Cijk_Ailk_Bljk_BBS_BH_MT64x64x64_MI16x16x16x1_SN", OpClass.MATMUL),
        ("void cutlass::Kernel<cutlass_80_tensorop_s1688gemm_256x64_16x4_tn_align1>", OpClass.MATMUL),
        (
            "void cutlass_cudnn::Kernel<cutlass_tensorop_s1688wgrad_optimized_tf32_256x64_16x4_nhwc>",
            OpClass.CONVOLUTION,
        ),
        ("sm80_xmma_dgrad_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nhwc", OpClass.CONVOLUTION),
        ("void implicit_convolve_sgemm<float, float, 128, 6, 7>", OpClass.CONVOLUTION),
        ("igemm_wrw_gtcx3_nhwc_bf16_bx0_ex1", OpClass.CONVOLUTION),
        ("cudnn_infer_volta_scudnn_128x64_relu_medium_nn_v1", OpClass.CONVOLUTION),
        ("void cutlass::device_kernel<flash::FlashAttnFwdSm90<flash::Mainloop>>", OpClass.ATTENTION),
        ("fmha_cutlassF_f32_aligned_64x64_rf_sm80", OpClass.ATTENTION),
        ("attn_fwd", OpClass.ATTENTION),
        ("void cudnn::bn_bw_1C11_kernel_new<float>", OpClass.NORMALIZATION),
        ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>", OpClass.NORMALIZATION),
        ("void (anonymous namespace)::softmax_warp_forward<float, float, float, 10, true>", OpClass.SOFTMAX_LOSS),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>>", OpClass.ELEMENTWISE),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>", OpClass.DATA_MOVEMENT),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, sum_functor>>", OpClass.REDUCTION),
        ("void multi_tensor_apply_kernel<TensorListMetadata<4>, AdamFunctor<float>>", OpClass.OPTIMIZER),
        ("void at::native::(anonymous namespace)::max_pool_backward_nchw<float, float>", OpClass.POOLING),
        ("void at::native::(anonymous namespace)::indexSelectLargeIndex<float, long>", OpClass.DATA_MOVEMENT),
        ("void at::native::(anonymous namespace)::fused_dropout_kernel_vec<float>", OpClass.RANDOM),
        ("void at::native::(anonymous namespace)::embedding_backward_feature_kernel<float>", OpClass.EMBEDDING),
        ("void LSTM_elementWise_fp<float, float, float>", OpClass.RECURRENT),
        ("ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)", OpClass.COLLECTIVE),
        ("Memcpy HtoD (Pinned -> Device)", OpClass.DATA_MOVEMENT),
        ("Memset (Device)", OpClass.DATA_MOVEMENT),
        ("triton_poi_fused__to_copy_t_8", OpClass.ELEMENTWISE),
        ("triton_red_fused__log_softmax_div_mul_40", OpClass.SOFTMAX_LOSS),
        ("triton_per_fused__fused_rms_norm__unsafe_view_add_13", OpClass.NORMALIZATION),
        ("triton_tem_fused_mm_3", OpClass.MATMUL),
        ("triton__0d1d2d3d", OpClass.COMPILED),
        ("my_own_kernel", None),
    ],
)
def test_a_kernel_has_its_class(name: str, expected: OpClass | None) -> None:
    assert classify_kernel(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("void cudnn::detail::dgrad_engine<float, 512, 6, 5, 3, 3, 3, false>", Role.INPUT_GRAD),
        ("void cudnn::cnn::wgrad_alg0_engine<float, 128, 6, 7, 3, 3, 5>", Role.WEIGHT_GRAD),
        ("igemm_bwd_gtcx3_nhwc_bf16", Role.INPUT_GRAD),
        ("igemm_wrw_gtcx3_nhwc_bf16", Role.WEIGHT_GRAD),
        ("kernel_batched_gemm_xdlops_bwd_weight", Role.WEIGHT_GRAD),
        ("igemm_fwd_gtcx3_nhwc_bf16", None),
        ("volta_sgemm_128x64_nn", None),
    ],
)
def test_names_that_say_which_gradient(name: str, expected: Role | None) -> None:
    assert kernel_role(name) is expected
