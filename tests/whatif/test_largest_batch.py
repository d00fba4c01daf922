"""The line of peaks over batches, on numbers whose answer is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.analysis.memory_prices import BatchPoint
from longpole.errors import LongpoleError
from longpole.whatif.largest_batch import fit_line, largest_batch, predicted_peak


def points(*pairs: tuple[int, int]) -> list[BatchPoint]:
    return [BatchPoint(batch, peak) for batch, peak in pairs]


@given(st.integers(0, 10**10), st.integers(1, 10**8), st.integers(1, 10**5))
def test_on_a_line_the_answer_is_exact(fixed: int, sample: int, batch: int) -> None:
    """A budget of fixed + sample x batch holds that batch; half a sample less holds one sample fewer."""
    measured = points(*((n, fixed + sample * n) for n in (4, 8, 16)))
    for budget, wanted in ((fixed + sample * batch + sample / 2, batch), (fixed + sample * (batch - 0.5), batch - 1)):
        found = largest_batch(measured, int(budget), "given")
        assert found.batch_size == (wanted or None) or sample < 4  # halves of few bytes are lost to rounding
    assert fit_line(measured).sample == pytest.approx(sample, rel=1e-6)


def test_a_small_batch_that_peaks_in_the_update_is_left_out() -> None:
    """Batches 8 and 16 are on 100 + 10 x; at 2 the update's 150 is more than 120."""
    found = largest_batch(points((2, 150), (8, 180), (16, 260)), 500, "given")
    assert (found.fixed_bytes, found.sample_bytes, found.batch_size) == (100, 10, 40)
    assert "batch 2 peaks elsewhere" in found.note


def test_two_points_have_no_interval_and_three_have_one() -> None:
    two = largest_batch(points((8, 180), (16, 260)), 500, "given")
    assert (two.batch_size, two.low, two.high) == (40, None, None)
    three = largest_batch(points((8, 180), (16, 261), (32, 420)), 500, "given")
    assert three.low is not None
    assert three.high is not None
    assert three.batch_size is not None
    assert three.low <= three.batch_size <= three.high


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Normal noise of 5 bytes round 1000 + 10 x: the peak of batch 64 lies in its interval 95 times in 100."""
    chance = random.Random(1)
    inside = 0
    for _ in range(1000):
        line = fit_line(points(*((n, round(1000 + 10 * n + chance.gauss(0, 5))) for n in (8, 16, 24, 32))))
        inside += abs(1000 + 640 + chance.gauss(0, 5) - line.at(64)) <= line.half_width(64)
    assert 930 <= inside <= 970


def test_what_cannot_be_answered_is_said() -> None:
    with pytest.raises(LongpoleError, match="two measured batches"):
        largest_batch(points((8, 100), (8, 100)), 500, "given")
    flat = largest_batch(points((8, 100), (16, 100)), 500, "given")
    assert flat.batch_size is None
    assert "does not grow" in flat.note
    assert largest_batch(points((8, 180), (16, 260)), 105, "given").batch_size is None


def test_the_peak_moves_to_another_phase() -> None:
    """Forward holds 100 + 10 a sample, backward 40 + 12: they meet at 30, and beyond it backward is the peak."""
    points = [BatchPoint(b, 100 + 10 * b, None, {"forward": 100 + 10 * b, "backward": 40 + 12 * b}) for b in (4, 8, 16)]
    assert predicted_peak(points, 20) == pytest.approx(300)
    assert predicted_peak(points, 50) == pytest.approx(640)
    found = largest_batch(points, 645, "given")
    assert (found.batch_size, round(found.fixed_bytes), round(found.sample_bytes)) == (50, 40, 12)


def test_a_phase_whose_smallest_batch_peaks_elsewhere_in_it_is_extrapolated_by_the_others() -> None:
    """Backward of a small LSTM: as much as its gradients at batch 4, then 3 MB a sample."""
    found = [BatchPoint(b, 0, None, {"backward": max(30_000, 14_000 + 3_000 * b)}) for b in (4, 8, 16)]
    assert predicted_peak(found, 40) == pytest.approx(14_000 + 3_000 * 40)
