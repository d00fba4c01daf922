"""FLOPs of every reference network: longpole's count of a training step against torch.utils.flop_counter's.

torch's formulas are used as they are, but for what they leave out or get wrong (torch 2.13):
- fused attention of CPUs has no formula there: compared without it;
- oneDNN's LSTM has none either: compared without it;
- the gradients of a grouped convolution are counted as those of an ungrouped one: counted here on paper.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from torch.utils.flop_counter import flop_registry

import longpole
from longpole.survey.catalogue import build, names
from longpole.survey.figures import PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.analysis.study import Study

QUICK = ("lenet", "mobilenetv2", "lstm-lm", "gpt2", "pinn")
UNCOVERED = ("aten::_scaled_dot_product_flash_attention_for_cpu", "aten::mkldnn_rnn_layer")
STEPS = 14  # enough for every level of measuring


class CountFlops(TorchDispatchMode):
    """torch's formulas without FlopCounterMode, whose module tracker fails where a loss calls autograd.grad."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet is torch.ops.aten.convolution_backward and args[9] > 1:
            self.counts[str(packet)] += grouped_backward(args[0].shape, args[2].shape, args[10])
        elif packet in flop_registry:
            self.counts[str(packet)] += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        return out


def grouped_backward(gradient: torch.Size, weight: torch.Size, wanted: tuple[bool, bool, bool]) -> int:
    """Each gradient is as many multiply-adds as forward: out elements times what each sums over."""
    return 2 * prod(gradient) * prod(weight[1:]) * (wanted[0] + wanted[1])


def steps_of(name: str) -> Callable[[], None]:
    torch.manual_seed(0)
    training = build(name, "tiny")
    model = training.model.train()
    optimizers = training.optimizers(model)
    batch = next(iter(DataLoader(training.data, training.batch_size, shuffle=True, drop_last=True)))

    def step() -> None:
        if training.turn is not None:
            training.turn(model, optimizers, batch)
            return
        for optimizer in optimizers:
            optimizer.zero_grad()
        training.loss(model, batch).backward()
        for optimizer in optimizers:
            optimizer.step()

    return step


def measured(step: Callable[[], None]) -> Study:
    with longpole.record(steps=4, warmup=2) as recording:
        for _ in range(STEPS):
            step()
    return recording.study()


def product_flops(study: Study) -> float:
    """Of a step, in products, without the ops that torch has no formula for."""
    whole = sum(entry.flops or 0.0 for entry in study.op_classes if entry.op_class in PRODUCTS)
    return whole - sum(op.flops or 0.0 for op in study.ops if op.op.removesuffix("_backward") in UNCOVERED)


EACH = [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in names()]


@pytest.mark.parametrize("name", EACH)
def test_flops_of_a_step_are_those_of_torch(name: str) -> None:
    step = steps_of(name)
    with CountFlops() as counted:
        step()
    study = measured(step)
    assert product_flops(study) == pytest.approx(sum(counted.counts.values()), rel=1e-9)
    assert not [op.op for op in study.ops if op.op_class == "unclassified"]
    unknown = {op.op for op in study.ops if op.op_class in PRODUCTS and op.flops is None}
    assert not unknown, f"no formula: {unknown}"


def test_lstm_flops_are_those_on_paper() -> None:
    """Two layers of 32 on 8 places and 2 texts: 2 * 8 * 2 * (4 * 32 * 32 + 4 * 32 * 32) each; backward twice that."""
    study = measured(steps_of("lstm-lm"))
    recurrent = next(entry for entry in study.op_classes if entry.op_class == "recurrent")
    assert recurrent.flops == 3 * 2 * (2 * 8 * 2 * (2 * 4 * 32 * 32))


def test_causal_attention_flops_are_those_on_paper() -> None:
    """Two layers, 2 texts, 2 heads of 16, 16 places: 16 * 17 / 2 pairs, two products forward and five backward."""
    study = measured(steps_of("gpt2"))
    attention = next(entry for entry in study.op_classes if entry.op_class == "attention")
    pairs = 16 * 17 // 2
    assert attention.flops == 2 * (2 * 2) * (2 * pairs * 16) * (2 + 5)


def test_the_count_can_differ() -> None:
    with CountFlops() as counted:
        torch.ones(3, 4) @ torch.ones(4, 5)
    assert counted.counts == {"aten.mm": 2 * 3 * 4 * 5}
    assert grouped_backward(torch.Size((1, 6, 2, 2)), torch.Size((6, 1, 3, 3)), (True, False, False)) == 2 * 24 * 9
