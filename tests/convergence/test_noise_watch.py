"""Trainings that are watched stay what they are to the bit; known noise is found, layer by layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from longpole.convergence.noise_estimator import moments
from longpole.convergence.noise_run import report_of
from longpole.convergence.noise_watch import NoiseOptions, NoiseWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.analysis.noise_results import NoiseReport

pytestmark = pytest.mark.usefixtures("one_thread")


def watched(train: Callable[[], Any], every: int = 2) -> tuple[Any, NoiseWatch]:
    watch = NoiseWatch(NoiseOptions(every))
    watch.start()
    try:
        return train(), watch
    finally:
        watch.finish()


def report(train: Callable[[], Any], every: int = 1) -> NoiseReport:
    """The result is made while the script's tensors are alive, as it is when its module is still there."""
    kept, watch = watched(train, every)
    found = report_of(watch)
    del kept
    assert watch.failure is None
    return found


def conv_net() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3)),
        *(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)),
    )


def cross_entropy(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(x, y)


def train_conv(loss: Callable[..., torch.Tensor] = cross_entropy) -> tuple[list[float], nn.Module, torch.Tensor]:
    """Losses, the network with its running statistics, and what the random numbers are at the end."""
    torch.manual_seed(5)
    model = conv_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    losses: list[float] = []
    for _ in range(9):
        x, y = torch.randn(12, 1, 8, 8), torch.randint(0, 3, (12,))
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(value.item())
    return losses, model, torch.get_rng_state()


def accumulate(micro: int = 3) -> tuple[list[float], nn.Module, torch.Tensor]:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses: list[float] = []
    for _ in range(8):
        total = 0.0
        for _ in range(micro):
            x = torch.randn(10, 6)
            value = (model(x) - x.sum(1, keepdim=True)).square().mean() / micro
            value.backward()
            total += value.item()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses, model, torch.get_rng_state()


@pytest.mark.parametrize("train", [train_conv, accumulate, lambda: train_conv(lambda x, y: F.cross_entropy(x, y) * 2)])
def test_losses_weights_buffers_and_random_numbers_are_the_same_to_the_bit(train: Callable[[], Any]) -> None:
    losses, model, state = train()
    (again, other, other_state), watch = watched(train)
    assert watch.failure is None
    assert watch.samples
    assert again == losses
    assert torch.equal(state, other_state)
    for (name, one), (_, two) in zip(model.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(one, two), name


class TwoLayers(nn.Module):
    """Its mean output has x_i as the gradient of example i, for each layer its own: noise with a known scale."""

    def __init__(self) -> None:
        super().__init__()
        self.quiet = nn.Linear(3, 1, bias=False)
        self.loud = nn.Linear(4, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.quiet(x[:, :3]) + self.loud(x[:, 3:])


# Gradients of examples: N(1, 0.5²) in each of 3 elements, N(0.5, 2²) in each of 4.
KNOWN = {"quiet": (3.0, 0.75), "loud": (1.0, 16.0)}  # |G|², tr(Σ)


def known_noise(model: TwoLayers, repetitions: int, micro: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for _ in range(repetitions + 2):
        for _ in range(micro):
            x = torch.cat([1 + 0.5 * torch.randn(16, 3), 0.5 + 2 * torch.randn(16, 4)], dim=1)
            (model(x).mean() / micro).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("micro", [1, 3])
def test_known_noise_is_found_without_bias_over_200_repetitions_layer_by_layer(micro: int) -> None:
    torch.manual_seed(11)
    model = TwoLayers()
    _, watch = watched(lambda: known_noise(model, 200, micro), every=1)
    assert len(watch.samples) >= 200
    for name, (squared, variance) in KNOWN.items():
        weight = getattr(model, name).weight
        found = [moments(sample.by_parameter[id(weight)]) for sample in watch.samples]
        for values, expected in (
            ([one.squared_norm for one in found], squared),
            ([one.variance for one in found], variance),
        ):
            mean = math.fsum(values) / len(values)
            error = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
            assert abs(mean - expected) < 3.5 * error
            assert error < 0.1 * expected


@pytest.mark.parametrize(("micro", "method"), [(1, "parts of the batch"), (3, "micro-batches")])
def test_the_report_has_the_known_scales_inside_its_intervals(micro: int, method: str) -> None:
    torch.manual_seed(2)
    model = TwoLayers()
    found = report(lambda: known_noise(model, 150, micro))
    assert (found.method, found.batch, found.covered_share) == (method, 16 * micro, 1.0)
    scales = {"quiet": 0.25, "loud": 16.0}
    for layer in found.layers:
        assert layer.low is not None
        assert layer.high is not None
        assert layer.low * 0.9 < scales[layer.path] < layer.high * 1.1
        assert layer.noise_scale == pytest.approx(scales[layer.path], rel=0.3)
        assert layer.signal_to_noise == pytest.approx(16 * micro / scales[layer.path], rel=0.35)
    assert found.total is not None
    assert found.total.noise_scale == pytest.approx(16.75 / 4, rel=0.3)
    assert found.depth is not None
    assert found.depth.verdict == "not decided"


def test_batch_normalization_is_measured_on_halves_run_again() -> None:
    found = report(train_conv)
    assert found.method == "halves run again"
    assert found.covered_share == 1.0
    assert (found.batch, found.part) == (12, 6.0)


def test_a_loss_that_cannot_be_called_again_leaves_what_follows_batch_normalization() -> None:
    found = report(lambda: train_conv(lambda x, y: F.cross_entropy(x, y) + 0.1 * x.square().mean()))
    assert found.method == "parts of the batch"
    covered = [layer.path for layer in found.layers if not layer.not_covered]
    assert covered == ["8"]
    assert all("batch normalization" in layer.not_covered for layer in found.layers if layer.path != "8")


def test_closures_and_several_optimizers_are_no_micro_batches() -> None:
    def lbfgs() -> Any:
        torch.manual_seed(0)
        model, x = nn.Linear(4, 1), torch.randn(8, 4)
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        for _ in range(6):
            optimizer.step(closure)
        return model

    found = report(lbfgs)
    assert found.method == "none"
    assert found.total is None
    assert found.notes

    def two() -> Any:
        torch.manual_seed(0)
        models = [nn.Linear(4, 4), nn.Linear(4, 1)]
        optimizers = [torch.optim.SGD(model.parameters(), 0.01) for model in models]
        for _ in range(8):
            models[1](torch.randn(8, 4)).mean().backward()
            optimizers[1].step()
            models[1](models[0](torch.randn(8, 4))).mean().backward()
            optimizers[0].step()
            for optimizer in optimizers:
                optimizer.zero_grad()
        return models

    found = report(two)
    assert found.method == "none"
    assert any("several optimizers" in note for note in found.notes)


def test_a_failure_of_the_watch_ends_the_watch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr("longpole.convergence.noise_watch.split", fails)
    losses, _, _ = train_conv(lambda x, y: F.mse_loss(x, F.one_hot(y, 3).float()) * 2)
    (again, _, _), watch = watched(lambda: train_conv(lambda x, y: F.mse_loss(x, F.one_hot(y, 3).float()) * 2))
    assert again == losses
    assert watch.failure == "RuntimeError: no"


def test_too_short_a_training_says_so() -> None:
    def one_step() -> Any:
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        model(torch.randn(4, 3)).mean().backward()
        optimizer.step()
        return model

    found = report(one_step)
    assert found.total is None
    assert found.sentence == "Gradient noise could not be measured here."
    assert any("1 step" in note for note in found.notes)
