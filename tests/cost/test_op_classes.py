"""Every operator that training makes has a class, by name; what is not known is None."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from longpole.cost.op_classes import class_of_children, classify_op
from longpole.trace import OpClass

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aten::addmm", OpClass.MATMUL),
        ("aten::linear", OpClass.HOST),
        ("aten::matmul", OpClass.HOST),
        ("aten::native_layer_norm_backward", OpClass.NORMALIZATION),
        ("aten::mkldnn_convolution", OpClass.CONVOLUTION),
        ("aten::convolution_backward", OpClass.CONVOLUTION),
        ("aten::_foreach_add_", OpClass.OPTIMIZER),
        ("aten::_foreach_addcdiv_", OpClass.OPTIMIZER),
        ("aten::_fused_adamw_", OpClass.OPTIMIZER),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", OpClass.ATTENTION),
        ("aten::mkldnn_rnn_layer_backward", OpClass.RECURRENT),
        ("aten::relu_", OpClass.ELEMENTWISE),
        ("aten::threshold_backward", OpClass.ELEMENTWISE),
        ("aten::__and__", OpClass.ELEMENTWISE),
        ("aten::max_pool2d_with_indices_backward", OpClass.POOLING),
        ("aten::embedding_dense_backward", OpClass.EMBEDDING),
        ("aten::_log_softmax_backward_data", OpClass.SOFTMAX_LOSS),
        ("aten::copy_", OpClass.DATA_MOVEMENT),
        ("aten::view_copy", OpClass.DATA_MOVEMENT),
        ("aten::zero_", OpClass.DATA_MOVEMENT),
        ("aten::as_strided", OpClass.HOST),
        ("aten::squeeze_", OpClass.HOST),
        ("aten::bernoulli_", OpClass.RANDOM),
        ("aten::sum", OpClass.REDUCTION),
        ("c10d::allreduce_", OpClass.COLLECTIVE),
        ("gloo:all_reduce", OpClass.COLLECTIVE),
        ("nccl:_all_gather_base", OpClass.COLLECTIVE),
        ("record_param_comms", OpClass.COLLECTIVE),
        ("AddmmBackward0", OpClass.HOST),
        ("NllLossBackward", OpClass.HOST),
        ("torch::autograd::AccumulateGrad", OpClass.HOST),
        ("autograd::engine::evaluate_function: ConvolutionBackward0", OpClass.HOST),
        ("Optimizer.step#AdamW.step", OpClass.HOST),
        ("flash_attn::_flash_attn_forward", OpClass.ATTENTION),
        ("FlashAttnFunc", OpClass.ATTENTION),
        ("quantized::linear_dynamic", OpClass.MATMUL),
        ("quantized::conv2d_relu", OpClass.CONVOLUTION),
        ("torchvision::nms", OpClass.POOLING),
        ("Torch-Compiled Region: 0/0", OpClass.COMPILED),
        ("graph_0_cpp_fused_addmm_relu_0", OpClass.COMPILED),
        ("detach", OpClass.HOST),
        ("mylib::secret_sauce", None),
        ("aten::no_such_operator", None),
        ("", None),
    ],
)
def test_a_name_has_its_class(name: str, expected: OpClass | None) -> None:
    assert classify_op(name) is expected


def test_an_operator_inside_a_lookup_is_the_lookups() -> None:
    assert class_of_children("aten::embedding") is OpClass.EMBEDDING
    assert class_of_children("aten::linear") is None


def test_every_operator_of_torchs_dispatcher_has_a_class() -> None:
    torch = pytest.importorskip("torch")
    names = {full.split(".")[0] for full in torch._C._dispatch_get_all_op_names() if full.startswith("aten::")}
    assert len(names) > 1000
    unknown = {name[6:] for name in names if classify_op(name) is None}
    assert {name for name in unknown if not name.startswith("_test_")} <= {"_foobar"}


def networks(torch: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Small networks and their inputs, whose training steps make the usual operators."""
    nn = torch.nn
    image, tokens, series = torch.randn(2, 3, 16, 16), torch.randint(0, 11, (2, 5)), torch.randn(2, 5, 8)
    cnn = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=8),
        nn.GroupNorm(2, 8), nn.SiLU(), nn.ConvTranspose2d(8, 4, 2, stride=2), nn.AvgPool2d(2), nn.Dropout(0.1),
        nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip
    return {
        "mlp": (nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4)), (series,)),
        "cnn": (cnn, (image,)),
        "transformer": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (series,)),
        "decoder": (nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), (series, series)),
        "lstm": (nn.LSTM(8, 6, 2, batch_first=True), (series,)),
        "gru": (nn.GRU(8, 6, bidirectional=True), (series,)),
        "rnn": (nn.RNN(8, 6), (series,)),
        "cell": (nn.LSTMCell(8, 6), (series[0],)),
        "embedding": (nn.Sequential(nn.Embedding(11, 8, padding_idx=0), nn.RMSNorm(8)), (tokens,)),
        "bag": (nn.EmbeddingBag(11, 8, mode="mean"), (tokens,)),
        "attention": (causal_attention(torch), (series,)),
    }


def causal_attention(torch: Any) -> Any:
    class Causal(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = torch.nn.Linear(8, 24)

        def forward(self, x: Any) -> Any:
            q, k, v = self.qkv(x).view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    return Causal()


def operators_of(torch: Any, work: Callable[[], None]) -> set[str]:
    with torch.profiler.profile() as profile:
        work()
    return {event.name() for event in profile.profiler.kineto_results.events()}


@pytest.mark.parametrize(
    "name", ["mlp", "cnn", "transformer", "decoder", "lstm", "gru", "rnn", "cell", "embedding", "bag", "attention"]
)
def test_every_operator_of_a_training_step_has_a_class(name: str) -> None:
    torch = pytest.importorskip("torch")
    module, inputs = networks(torch)[name]
    optimizer = torch.optim.AdamW(module.parameters())

    def step() -> None:
        with torch.autocast("cpu", enabled=name in ("mlp", "cnn")):
            output = module(*inputs)
        output = output[0] if isinstance(output, tuple) else output
        output.float().pow(2).mean().backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    seen = operators_of(torch, step)
    assert any(classify_op(found) not in (None, OpClass.HOST) for found in seen)
    assert [found for found in seen if classify_op(found) is None] == []


@pytest.mark.parametrize("options", [{"foreach": False}, {"foreach": True}, {"fused": True}])
@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "Adagrad"])
def test_every_operator_of_an_optimizer_has_a_class(kind: str, options: dict[str, bool]) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(4, 4)
    module(torch.randn(2, 4)).sum().backward()
    optimizer = getattr(torch.optim, kind)(module.parameters(), lr=0.1, **options)
    assert [found for found in operators_of(torch, optimizer.step) if classify_op(found) is None] == []


def test_every_operator_of_the_losses_has_a_class() -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    def losses() -> None:
        x = torch.randn(6, 4, requires_grad=True)
        y, labels = torch.rand(6, 4), torch.randint(0, 4, (6,))
        signs = torch.ones(6)
        total = functional.cross_entropy(x, labels, label_smoothing=0.1) + functional.mse_loss(x, y)
        total = total + functional.binary_cross_entropy_with_logits(x, y) + functional.huber_loss(x, y)
        total = total + functional.binary_cross_entropy(x.sigmoid(), y) + functional.smooth_l1_loss(x, y)
        total = total + functional.kl_div(x.log_softmax(1), y, reduction="batchmean") + functional.l1_loss(x, y)
        total = total + functional.multi_margin_loss(x, labels) + functional.cosine_embedding_loss(x, y, signs)
        total = total + functional.ctc_loss(
            torch.randn(5, 2, 4, requires_grad=True).log_softmax(2), torch.tensor([[1, 2], [3, 1]]), (5, 5), (2, 2)
        )
        total.backward()
        torch.topk(x, 2), torch.sort(x), x.scatter(0, labels[:, None], 1.0), x.gather(1, labels[:, None])
        torch.fft.rfft(x), torch.linalg.solve(y[:4], y[:4]), torch.multinomial(y, 2), x[labels], torch.randperm(3)

    assert [found for found in operators_of(torch, losses) if classify_op(found) is None] == []
