"""What is saved for backward, to the byte: every sum is written out from the shapes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from memory.nets import one_step, watch

pytestmark = pytest.mark.usefixtures("one_thread")

FLOAT = 4
LONG = 8


# -- an MLP ----------------------------------------------------------------------------------------------------


def test_an_mlp() -> None:
    n, i, h, o = 5, 7, 11, 3
    model = nn.Sequential(nn.Linear(i, h), nn.ReLU(), nn.Linear(h, h), nn.Tanh(), nn.Linear(h, o))
    found = watch(model, one_step(model, torch.randn(n, i)))
    assert found.saved == {
        "0": n * i * FLOAT,  # its input, for the weight's gradient
        "1": n * h * FLOAT,  # ReLU keeps its output; the next Linear's input is the same storage
        "3": n * h * FLOAT,  # so does tanh
    }
    assert found.failure is None


def test_a_loss_keeps_log_probabilities_targets_and_a_weight_sum() -> None:
    n, i, o = 6, 4, 10
    model = nn.Linear(i, o)
    x, y = torch.randn(n, i), torch.randint(o, (n,))
    found = watch(model, lambda: F.cross_entropy(model(x), y).backward())
    assert found.saved == {
        "Linear": n * i * FLOAT,
        "outside": n * o * FLOAT + n * LONG + FLOAT,  # log-softmax's output, the targets, the total weight
    }


def test_the_first_layer_of_a_frozen_network_keeps_nothing() -> None:
    n, i, h = 4, 6, 8
    model = nn.Sequential(nn.Linear(i, h), nn.ReLU(), nn.Linear(h, 2))
    model[0].requires_grad_(False)
    found = watch(model, one_step(model, torch.randn(n, i)))
    assert found.saved == {"2": n * h * FLOAT}  # the input of what learns, and nothing before


def test_weights_are_apart_even_as_views() -> None:
    i, h = 6, 8
    model = nn.Sequential(nn.Linear(i, h), nn.Linear(h, h))
    found = watch(model, one_step(model, torch.randn(3, i)))
    owned = found.memory.saved
    weights = {owned.storage[row] for row, kind in enumerate(owned.kind) if kind == 3}
    # The first layer's input has no gradient, so its weight is not asked for; the second one's is, transposed.
    assert [found.memory.storages.bytes[row] for row in weights] == [h * h * FLOAT]
    assert found.total == 3 * i * FLOAT + 3 * h * FLOAT


# -- a conv net ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_place", [False, True])
def test_a_conv_net_with_batch_norm(in_place: bool) -> None:
    n, c, k, size, p, o = 2, 3, 8, 16, 8, 10
    model = nn.Sequential(
        nn.Conv2d(c, k, 3, padding=1, bias=False),
        nn.BatchNorm2d(k),
        nn.ReLU(inplace=in_place),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(k * p * p, o),
    )
    found = watch(model, one_step(model, torch.randn(n, c, size, size)))
    assert found.saved == {
        "0": n * c * size * size * FLOAT,  # the picture
        "1": n * k * size * size * FLOAT + 2 * k * FLOAT,  # its input; mean and inverse deviation of each channel
        # ReLU's output: a storage of its own, or batch norm's output overwritten. The same bytes are kept either
        # way, for batch norm's own output is not: pooling reads ReLU's output, the same storage.
        "2": n * k * size * size * FLOAT,
        "3": n * k * p * p * LONG,  # where each maximum was
        "5": n * k * p * p * FLOAT,  # pooled: the classifier's input
    }
    assert found.kinds["MASK"] == n * k * p * p * LONG
    assert found.kinds["STATISTICS"] == 2 * k * FLOAT


def test_relu_in_place_spares_the_storage_and_not_what_is_saved() -> None:
    peaks = {}
    for in_place in (False, True):
        model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=in_place))
        found = watch(model, one_step(model, torch.randn(2, 3, 16, 16)))
        large = [size for size in found.memory.storages.bytes if size == 2 * 8 * 16 * 16 * FLOAT]
        peaks[in_place] = len(large)
    assert peaks[False] == peaks[True] + 1


# -- transformer blocks ----------------------------------------------------------------------------------------


class Block(nn.Module):
    """Pre-norm, GELU, no dropout; `plain` writes attention out instead of calling SDPA."""

    def __init__(self, h: int, heads: int, plain: bool) -> None:
        super().__init__()
        self.heads, self.plain = heads, plain
        self.norm1, self.norm2 = nn.LayerNorm(h), nn.LayerNorm(h)
        self.qkv, self.proj = nn.Linear(h, 3 * h), nn.Linear(h, h)
        self.fc1, self.fc2 = nn.Linear(h, 4 * h), nn.Linear(4 * h, h)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, s, h = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, s, 3, self.heads, h // self.heads).permute(2, 0, 3, 1, 4)
        y = self.attend(q, k, v) if self.plain else F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, s, h))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        hidden = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool).triu(1)
        return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v


B, S, H, A = 2, 12, 24, 3
ACTIVATION = B * S * H * FLOAT  # sbh elements


def test_a_transformer_block_with_sdpa() -> None:
    model = Block(H, A, plain=False)
    found = watch(model, one_step(model, torch.randn(B, S, H, requires_grad=True)))
    assert found.saved == {
        "norm1": ACTIVATION + 2 * B * S * FLOAT,  # x; mean and inverse deviation of each row
        "qkv": ACTIVATION,
        # SDPA: q, k, v are views of one storage; its output; log-sum-exp. GELU, outside of any module, its input.
        "": 3 * ACTIVATION + ACTIVATION + B * A * S * FLOAT + 4 * ACTIVATION,
        # proj's input is SDPA's output in another shape, the same storage
        "norm2": ACTIVATION + 2 * B * S * FLOAT,  # x + attention
        "fc1": ACTIVATION,
        "fc2": 4 * ACTIVATION,
    }
    assert found.total == 16 * ACTIVATION + 4 * B * S * FLOAT + B * A * S * FLOAT


def test_a_transformer_block_with_plain_attention() -> None:
    model = Block(H, A, plain=True)
    found = watch(model, one_step(model, torch.randn(B, S, H, requires_grad=True)))
    scores = B * A * S * S * FLOAT
    attention = (
        3 * ACTIVATION  # q, k and v, copied to be contiguous by head for the matrix products
        + scores  # the softmax's output, which the product with v reads, too
        + S * S  # the mask, one byte an element
    )
    gelu = 4 * ACTIVATION
    assert found.saved == {
        "norm1": ACTIVATION + 2 * B * S * FLOAT,
        "qkv": ACTIVATION,
        "": attention + gelu,
        "proj": ACTIVATION,  # heads put back together: a copy
        "norm2": ACTIVATION + 2 * B * S * FLOAT,
        "fc1": ACTIVATION,
        "fc2": 4 * ACTIVATION,
    }


def test_dropout_keeps_its_mask() -> None:
    n, i = 4, 32
    model = nn.Sequential(nn.Linear(i, i), nn.Dropout(0.5), nn.Linear(i, i))
    found = watch(model, one_step(model, torch.randn(n, i)))
    assert found.saved == {
        "0": n * i * FLOAT,
        "1": n * i * FLOAT,  # on CPU the mask is of floats, scaled already
        "2": n * i * FLOAT,
    }
    assert found.kinds["MASK"] == n * i * FLOAT


# -- what else saves -------------------------------------------------------------------------------------------


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        y = x * x
        ctx.save_for_backward(x, y)
        ctx.kept = x + 1
        return y

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        x, _ = ctx.saved_tensors
        return grad * 2 * x * (ctx.kept - x)


def test_a_custom_function_and_that_its_attributes_are_not_seen() -> None:
    n, i = 3, 5

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(i, i)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Squared.apply(self.linear(x))

    model = Net()
    found = watch(model, one_step(model, torch.randn(n, i)))
    assert found.saved == {"linear": n * i * FLOAT, "": 2 * n * i * FLOAT}
    assert set(found.memory.saved.op) == {"addmm", "Squared"}
    assert found.kinds == {"INPUT": 2 * n * i * FLOAT, "OUTPUT": n * i * FLOAT}
    assert any("ctx" in note for note in found.memory.notes)


class Checkpointed(nn.Module):
    def __init__(self, h: int, reentrant: bool) -> None:
        super().__init__()
        self.first, self.body, self.last = nn.Linear(h, h), nn.Sequential(nn.Linear(h, h), nn.Tanh()), nn.Linear(h, h)
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(checkpoint(self.body, self.first(x), use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_is_checkpointed_keeps_its_input_only(reentrant: bool) -> None:
    n, h = 4, 16
    model = Checkpointed(h, reentrant)
    found = watch(model, one_step(model, torch.randn(n, h)))
    assert found.saved == {
        "first": n * h * FLOAT,
        "": n * h * FLOAT,  # the input of the checkpointed body, kept by the checkpoint itself
        "last": n * h * FLOAT,
    }


def test_a_slice_of_a_data_set_counts_what_it_spans() -> None:
    data = torch.randn(1000, 6)
    model = nn.Linear(6, 2)
    found = watch(model, one_step(model, data[10:14]))
    assert found.saved == {"Linear": 4 * 6 * FLOAT}
