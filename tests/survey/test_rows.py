"""A row's figures are sums over its runs that can be done on paper; claims follow from rows."""

from __future__ import annotations

import pytest

from longpole.survey.claims import CLAIMS, Judged, leads
from longpole.survey.rows import backward_to_forward, passes_share, products_flops_share, products_share, rows_of
from survey.made import measured, run


def test_figures_of_one_run() -> None:
    one = run()
    assert backward_to_forward(one) == pytest.approx(50 / (24 + 1))
    assert passes_share(one) == pytest.approx(0.75)
    assert products_share(one) == pytest.approx(0.6)
    assert products_flops_share(one) == pytest.approx(0.95)


def test_what_was_not_recorded_is_not_known_and_never_0() -> None:
    bare = run(classes_ms={}, classes_flops={}, phases_ms={"data": 100.0}, input_grad_ms=None, weight_grad_ms=None,
               bound_ms=None, saved_bytes=None, pole_ms=None, serial=None, accounted_share=None)  # fmt: skip
    (row,) = rows_of([measured("net", bare)])
    assert row.backward_to_forward is None
    assert row.products_share is None
    assert row.products_flops_share is None
    assert row.input_grad_share is None
    assert row.bound is None
    assert row.saved_bytes is None
    assert row.accounted_share is None
    assert row.unclassified_share is None
    assert row.serial is None


def test_phases_of_a_row_sum_to_the_step() -> None:
    (row,) = rows_of([measured("net", run(100), run(120), run(110))])
    assert sum(estimate.value for estimate in row.phases.values()) == pytest.approx(1.0)
    assert sum(row.phases_ms.values()) == pytest.approx(110)
    assert row.step_ms is not None
    assert row.step_ms.value == pytest.approx((100 * 120 * 110) ** (1 / 3))


def test_a_row_tells_the_worst_of_its_runs() -> None:
    runs = [run(), run(accounted_share=0.98, unclassified_ms=2.0, unclassified=["aten::new"])]
    (row,) = rows_of([measured("net", *runs)])
    assert row.accounted_share == 0.98
    assert row.unclassified_share == pytest.approx(0.02)
    assert row.unclassified == ["aten::new"]


def test_the_pole_is_what_most_runs_name() -> None:
    (row,) = rows_of([measured("net", run(), run(pole="DATA", pole_ms=60.0), run())])
    assert (row.pole, row.pole_share) == ("WEIGHT GRADIENTS of `fc`", pytest.approx(0.25))


def judged(name: str, *runs: object, **changes: object) -> Judged | None:
    (row,) = rows_of([measured("net", run(**changes))])
    return next(claim for claim in CLAIMS if claim.asks.startswith(name)).judge(row)


def holds(name: str, **changes: object) -> bool | None:
    found = judged(name, **changes)
    assert found is not None
    return found.holds


def phases(**ms: float) -> dict[str, dict[str, float]]:
    return {"phases_ms": dict(ms)}


def test_claims_on_steps_that_can_be_judged_by_eye() -> None:
    assert holds("Do forward and backward") is True
    assert holds("Do forward and backward", **phases(data=80, forward=10, backward=10)) is False
    assert holds("Do forward and backward", **phases(data=50, forward=25, backward=25)) is None
    assert holds("Is backward twice", **phases(forward=20, backward=80)) is False
    assert holds("Is backward twice", **phases(forward=36, backward=64)) is None  # 1.78, and 1.75 is near
    assert holds("Does the optimizer", **phases(forward=10, backward=20, optimizer=60, clip=10)) is True
    assert holds("Does waiting for data", **phases(forward=10, backward=20, data=60, transfer=10)) is True
    assert holds("Does waiting for data") is False
    assert holds("Are the matrix") is True
    assert holds("Are the matrix", classes_ms={"matmul": 20.0, "host": 80.0}) is False
    assert holds("Is there no single") is True
    assert holds("Is there no single", pole_ms=70.0) is False
    assert holds("Do the two gradients") is True
    assert holds("Do the two gradients", input_grad_ms=5.0) is False
    assert holds("Is most of the time serial") is True


def test_cached_outputs_are_weighed_against_what_else_is_held() -> None:
    """64 MiB saved; parameters 1, gradients 1, state 2: 4 MiB. A sample of 32: 2 MiB."""
    found = judged("Are cached outputs")
    assert found == Judged("net", True, "64 MiB beside 4 MiB, 2 MiB a sample")
    assert holds("Are cached outputs", saved_bytes=3 * 2**20) is False


def test_every_claim_is_silent_where_its_figures_are_missing() -> None:
    (row,) = rows_of([measured("net", failed="no")])
    assert [claim.judge(row) for claim in CLAIMS] == [None] * len(CLAIMS)
    assert leads(("data",))(row) is None
