"""Whether early layers are noisier is told from layers whose noise is known, and not where there is no telling."""

from __future__ import annotations

import numpy as np
import pytest

from longpole.convergence.noise_depth import depth_test, rank_by_step, spearman


def made(noise: list[float], steps: int = 24, spread: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """|G|² near 1 and tr(Σ) near the given, by (layer, step); the gradient shrinks a thousandfold over the steps."""
    random = np.random.default_rng(4)
    scale = np.logspace(0, -3, steps)
    signal = (1 + spread * random.standard_normal((len(noise), steps))) * scale
    return signal, np.array(noise)[:, None] * scale * np.ones((1, steps))


def test_early_layers_noisier_is_supported() -> None:
    found = depth_test(*made([9, 8, 7, 6, 5, 4, 3, 2]))
    assert (found.verdict, found.correlation) == ("supported", pytest.approx(-1.0))
    assert found.p == pytest.approx(2 / 40320)  # of 8! orders, this one and its reverse
    assert "the earlier the layer, the noisier" in found.sentence


def test_late_layers_noisier_contradicts_it() -> None:
    found = depth_test(*made([2, 3, 4, 5, 6, 7, 8]))
    assert (found.verdict, found.correlation) == ("contradicted", pytest.approx(1.0))


def test_no_order_is_not_decided() -> None:
    found = depth_test(*made([3, 9, 2, 8, 4, 7]))
    assert found.verdict == "not decided"
    assert found.p is not None
    assert found.p > 0.05


def test_an_order_that_one_step_alone_has_is_not_decided() -> None:
    """One step's huge gradients, in order, do not outvote 23 steps without one."""
    signal, variance = made([5.0] * 6, spread=0.5)
    signal[:, 0], variance[:, 0] = 1e6, 1e6 * np.arange(6, 0, -1)
    assert depth_test(signal, variance).verdict == "not decided"


@pytest.mark.parametrize(("layers", "steps"), [(4, 20), (8, 2), (0, 0)])
def test_too_few_to_tell(layers: int, steps: int) -> None:
    found = depth_test(np.ones((layers, steps)), np.ones((layers, steps)))
    assert found.verdict == "not decided"
    assert "too few" in found.sentence


def test_a_gradient_below_zero_by_chance_is_the_noisiest() -> None:
    ranks = rank_by_step(np.array([[1.0], [-0.5], [0.1]]), np.ones((3, 1)))
    assert ranks[:, 0].tolist() == [0.0, 2.0, 1.0]


def test_correlation_written_out() -> None:
    """Ranks 1 0 2 beside 0 1 2: 1 - 6 * 2 / (3 * 8) = 0.5."""
    assert spearman(np.array([1.0, 0.0, 2.0])) == pytest.approx(0.5)
    assert spearman(np.array([1.0, 1.0, 1.0])) == 0.0
