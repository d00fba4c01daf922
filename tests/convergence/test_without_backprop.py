"""Gradients by every way agree, estimates are as near to the gradient as theory says, and a script is caught whole."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from longpole.analysis.durations import span
from longpole.capture.recorder import StopScriptError
from longpole.convergence.without_backprop_capture import NetworkCapture
from longpole.convergence.without_backprop_cosines import cosine_interval, expected_cosine
from longpole.convergence.without_backprop_costs import Timings, bound_of, errors_of, ways_of
from longpole.convergence.without_backprop_memory import peak_bytes
from longpole.convergence.without_backprop_network import Network, cosine, dot
from longpole.convergence.without_backprop_race import METHODS, Method, Problem, race, train
from longpole.convergence.without_backprop_run import report_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _train(optimizer: torch.optim.Optimizer, step: Callable[[], torch.Tensor]) -> None:
    for _ in range(5):
        optimizer.zero_grad()
        step().backward()
        optimizer.step()


def caught(model: nn.Module, step: Callable[[], torch.Tensor]) -> Network:
    """The network as a training loop around `step`, which returns the loss, would have it caught."""
    capture = NetworkCapture()
    capture.start()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    try:
        with pytest.raises(StopScriptError):
            _train(optimizer, step)
    finally:
        capture.finish()
    assert capture.updates == 2
    assert capture.captured is not None
    return Network(capture.captured)


def tiny(dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 3))


def tiny_network(dropout: float = 0.0) -> Network:
    torch.manual_seed(1)
    model, x, y = tiny(dropout).double(), torch.randn(6, 4).double(), torch.randint(0, 3, (6,))
    return caught(model, lambda: F.cross_entropy(model(x), y))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_reverse_mode_forward_mode_and_differences_give_the_gradient_that_the_script_got(dropout: float) -> None:
    network = tiny_network(dropout)
    gradient = network.gradient()
    for name, expected in network.call.gradients.items():
        torch.testing.assert_close(gradient[name], expected, rtol=1e-9, atol=1e-12)
    for name, value in network.parameters.items():
        for index in range(value.numel()):
            element, expected = network.element(name, index), float(gradient[name].reshape(-1)[index])
            assert network.slope(element) == pytest.approx(expected, abs=1e-10)
            assert network.difference(element, 1e-4) == pytest.approx(expected, abs=1e-7)


def test_batch_normalization_attention_and_tied_weights_agree_too() -> None:
    torch.manual_seed(2)

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(7, 4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.norm = nn.BatchNorm1d(3)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.tokens.weight

        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            h = self.tokens(x)
            h = self.norm(h + self.attention(h, h, h, need_weights=False)[0])
            return {"logits": self.head(h), "loss": None, "hidden": [h]}

    model, x = Odd(), torch.randint(0, 7, (6, 3))
    network = caught(model, lambda: F.cross_entropy(model(x)["logits"].flatten(0, 1), x.flatten()))
    gradient = network.gradient()
    own = network.call.gradients
    assert cosine({name: gradient[name] for name in own}, own) == pytest.approx(1.0, abs=1e-5)
    direction = network.random_direction(torch.Generator().manual_seed(0))
    assert network.slope(direction) == pytest.approx(dot(gradient, direction), rel=1e-3)


def test_a_network_that_returns_its_loss_is_differentiated_as_it_is() -> None:
    torch.manual_seed(3)

    class WithLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            out = self.layer(x)
            return out, out.square().mean()

    model, x = WithLoss(), torch.randn(4, 3)
    network = caught(model, lambda: model(x)[1])
    gradient = network.gradient()
    for name, expected in network.call.gradients.items():
        torch.testing.assert_close(gradient[name], expected)
    assert network.returns_its_loss
    assert network.value() == pytest.approx(model(x)[1].item())
    assert not tiny_network().returns_its_loss


@pytest.mark.parametrize(("k", "n"), [(1, 30), (4, 30), (16, 30), (64, 30), (1, 2)])
def test_cosines_on_a_quadratic_are_what_theory_says(k: int, n: int) -> None:
    """f(p) = sum of a_i p_i² / 2 has the gradient a p; 400 estimates of k slopes each."""
    torch.manual_seed(k)
    scale = torch.linspace(0.5, 3, n, dtype=torch.float64)
    point = torch.randn(n, dtype=torch.float64)
    gradient = scale * point
    found: list[float] = []
    for _ in range(400):
        directions = torch.randn(k, n, dtype=torch.float64)
        ahead, behind = point + 1e-4 * directions, point - 1e-4 * directions
        slopes = ((scale * ahead**2).sum(1) - (scale * behind**2).sum(1)) / 4e-4
        found.append(float(torch.cosine_similarity(slopes @ directions, gradient, dim=0)))
    error = float(np.std(found)) / math.sqrt(len(found))
    assert abs(float(np.mean(found)) - expected_cosine(k, n)) < 4 * error
    low, high = cosine_interval(k, n)
    inside = sum(low <= one <= high for one in found) / len(found)
    assert 0.91 < inside < 0.985


def test_expected_cosines_written_out() -> None:
    """One direction in a plane: the mean of |cos| of an even angle is 2/pi. Far fewer directions than n: sqrt(k/n)."""
    assert expected_cosine(1, 2) == pytest.approx(2 / math.pi)
    assert expected_cosine(1, 1) == 1.0
    assert expected_cosine(400, 10**8) == pytest.approx(math.sqrt(400 / 10**8), rel=1e-3)
    assert expected_cosine(1, 10**6) == pytest.approx(math.sqrt(2 / math.pi) / 1000, rel=1e-5)


def test_what_is_not_measured_is_said_to_be_extrapolated() -> None:
    """2 s a tangent for 43 parameters is 86 s, 43 times reverse mode's 2 s; 1, 2 and 4 beside 1 each: ratio 2."""
    network = tiny_network()
    timings = Timings({"function": [1.0, 1.0, 1.0], "reverse": [1.0, 2.0, 4.0], "forward": [2.0], "difference": [3.0]})
    gradient = network.gradient()
    errors = errors_of(network, gradient, timings)
    ways = ways_of(network, timings, errors)
    assert network.size == 43
    forward = ways[1]
    assert (forward.seconds, forward.beside_reverse, forward.measured) == (86.0, 43.0, 16)
    assert ways[2].seconds == 129.0
    assert errors["forward"] is not None
    assert errors["forward"] < 1e-9
    bound = bound_of(timings)
    assert bound is not None
    assert (bound.ratio, bound.holds) == (2.0, True)
    slow = bound_of(Timings({"function": [1.0], "reverse": [6.0]}))
    assert slow is not None
    assert not slow.holds
    assert "beyond" in slow.sentence


def test_a_way_that_torch_does_not_have_is_said_and_not_guessed() -> None:
    class NoForward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * 2

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return NoForward.apply(self.layer(x))

    model, x = Own(), torch.randn(4, 3)
    found = report_of(caught(model, lambda: model(x).square().mean()).call)
    assert found.ways[1].seconds is None
    assert "not possible here" in found.ways[1].note
    assert found.ways[2].seconds is not None
    assert all(row.forward is None and row.zeroth_order is not None for row in found.cosines)
    assert "Finite differences" in found.sentence


def test_peaks_are_counted_in_storages_while_they_live() -> None:
    """Two tensors of 4,000 bytes at once, the first gone when the third is made; a view is nothing new."""

    def work() -> None:
        one = torch.zeros(1000)
        two = one + 1
        del one
        three = two.view(10, 100) * 2
        del two, three

    assert peak_bytes(work) == 8000


def problem(target: float) -> Problem:
    """Least squares in 3 unknowns; its loss at the start is 14 in the mean of the inputs' squares."""
    weight = torch.tensor([[1.0, -2.0, 3.0]])
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))

    def make() -> nn.Module:
        model = nn.Linear(3, 1, bias=False)
        nn.init.zeros_(model.weight)
        return model

    def batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.randint(200, (50,), generator=generator)
        return x[rows], x[rows] @ weight.T

    return Problem("least squares", make, batch, F.mse_loss, (x, x @ weight.T), target)


@pytest.mark.parametrize("method", METHODS, ids=[method.name for method in METHODS])
def test_every_way_of_training_learns_and_the_same_seed_learns_the_same(method: Method) -> None:
    first, again = (train(problem(0.01), method, 0.05, seed=3, limit_s=30) for _ in range(2))
    assert first.steps is not None
    assert (first.steps, first.best) == (again.steps, again.best)
    assert first.best <= 0.01


def test_a_race_picks_the_rate_and_says_who_never_arrived() -> None:
    still = Method("still", lambda *_: None, (0.1,))
    walker = Method("backpropagation", METHODS[0].step, (1e-6, 0.1, 1e6))
    found = race(problem(0.01), seeds=2, limit_s=0.3, methods=(walker, still))
    assert (found.parameters, found.racers[0].learning_rate, found.racers[0].reached) == (3, 0.1, 2)
    assert (found.racers[1].reached, found.racers[1].median_s) == (0, None)
    assert "on 0 of 2 seeds" in found.sentence


@pytest.mark.parametrize(
    ("seconds", "text"), [(2e-6, "2 us"), (0.25, "250 ms"), (90, "90 s"), (7200, "2 hours"), (864_000, "10 days")]
)
def test_times_have_the_unit_that_suits_them(seconds: float, text: str) -> None:
    assert span(seconds) == text


SCRIPT = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.Adam(model.parameters())
for step in range(40):
    x = torch.randn(32, 8)
    loss = nn.functional.mse_loss(model(x), x[:, :4])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item().hex())
"""


def longpole(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "longpole", "converge", "--no-save", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_the_command_leaves_the_script_as_it_is_and_ends_it_where_it_must(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    plain = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    noise = longpole(tmp_path, "--noise", "--noise-every", "2", "--json", "noise.json", "train.py")
    assert noise.returncode == 0, noise.stderr
    assert noise.stdout == plain.stdout
    assert "noise scale" in noise.stderr
    assert b'"parts of the batch"' in (tmp_path / "noise.json").read_bytes()
    without = longpole(tmp_path, "--without-backprop", "--html", "page.html", "train.py")
    assert without.returncode == 0, without.stderr
    assert without.stdout == "".join(plain.stdout.splitlines(keepends=True)[:2])
    assert "reverse mode" in without.stderr
    assert "reverse mode" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("words", "text", "message"),
    [
        (("--noise",), "print('no torch')", "never imported torch"),
        (("--without-backprop",), "import torch", "no network was caught: 0 updates"),
        (("--noise", "--without-backprop"), "", "one at a time"),
        (("--noise", "--target", "1"), "", "--target is for following a loss"),
    ],
)
def test_what_cannot_be_measured_is_one_line(tmp_path: Path, words: tuple[str, ...], text: str, message: str) -> None:
    (tmp_path / "train.py").write_text(text)
    done = longpole(tmp_path, *words, "train.py")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_script_that_fails_keeps_its_exit_code_and_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\nraise ValueError('mine')\n")
    for option in ("--noise", "--without-backprop"):
        done = longpole(tmp_path, option, "train.py")
        assert done.returncode == 1
        assert "ValueError: mine" in done.stderr
