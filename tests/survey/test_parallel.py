"""How parallel a network is: on paper from two settings, at the stated coverage on simulated runs, and as text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from longpole.analysis.survey import Estimate, Figures
from longpole.errors import LongpoleError
from longpole.report import survey_parallel
from longpole.report.survey_page import page
from longpole.report.survey_text import text
from longpole.survey import run_one
from longpole.survey.claims import CLAIMS
from longpole.survey.parallel import BATCH, THREADS, asked_elsewhere, over_batch, over_threads
from longpole.survey.rows import Measured, rows_of
from longpole.survey.run_one import Asked
from longpole.survey.spread import PRIOR_WEIGHT, Usual
from longpole.survey.survey import Plan, Progress, survey
from survey.made import network, run
from survey.made import survey as made_survey

if TYPE_CHECKING:
    from pathlib import Path

    from longpole.analysis.survey import Row

EXACT = Usual(1e-12, PRIOR_WEIGHT)


def made(*runs: Figures, name: str = "net", **others: list[Figures]) -> Measured:
    return Measured(network(name), "small", runs, others=others)


def row_of(measured: Measured) -> Row:
    return rows_of([measured])[0]


def test_fixed_and_each_sample_on_paper() -> None:
    """4 + 3 n: batch 32 takes 100 ms, batch 8 takes 28; a sample costs 5 % more than 3 from 4 / (0.05 * 3) on."""
    found = over_batch([run(100.0), run(100.0)], [run(28.0, batch_size=8)], EXACT)
    assert found is not None
    assert found.batches == [8, 32]
    assert found.fixed_ms.value == pytest.approx(4.0)
    assert found.per_sample_ms.value == pytest.approx(3.0)
    assert found.enough is not None
    assert found.enough.value == pytest.approx(4 / 0.15)


def test_what_threads_gave_on_paper() -> None:
    """20 + 80 / p: one thread 100 ms, two 60: 5/3 as fast, a fifth is serial, and 60 / 20 is the limit beyond."""
    found = over_threads([run(100.0)], [run(60.0, threads=2)], EXACT)
    assert found is not None
    assert found.threads == [1, 2]
    values = [one.value for one in (found.gained, found.serial_share, found.limit) if one is not None]
    assert values == pytest.approx([100 / 60, 0.2, 3.0])


def test_one_run_of_each_borrows_its_interval_from_what_is_usual() -> None:
    """One run at each of two settings: the line is exact, and what the usual variance says is all of its noise."""
    narrow, wide = (over_threads([run(100.0)], [run(60.0, threads=2)], Usual(one**2, 4.0)) for one in (0.01, 0.04))
    assert narrow is not None
    assert wide is not None
    widths = [one.gained.high - one.gained.low for one in (narrow, wide) if one.gained and one.gained.high
              and one.gained.low]  # fmt: skip
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.05)
    # Ratio of two means, 1 % each, four degrees: 5/3 * 2.776 * 0.01 * sqrt(2) on each side.
    assert widths[0] / 2 == pytest.approx(5 / 3 * 2.776 * 0.01 * 2**0.5, rel=0.01)


def test_the_truth_lies_in_the_intervals_as_often_as_stated() -> None:
    """Runs that differ by 3 %, three of 5 + 0.5 n at 32 and one at 8, one more on two threads (a fifth serial)."""
    random = np.random.default_rng(11)
    inside, tries = np.zeros(3), 400
    usual = Usual(0.03**2, PRIOR_WEIGHT)
    for _ in range(tries):
        noise = np.exp(random.normal(0, 0.03, 5)).tolist()
        base = [run(21.0 * one) for one in noise[:3]]
        batch = over_batch(base, [run(9.0 * noise[3], batch_size=8)], usual)
        threads = over_threads(base, [run((4.2 + 8.4) * noise[4], threads=2)], usual)
        assert batch is not None
        assert threads is not None
        for at, (found, truth) in enumerate(
            [(batch.fixed_ms, 5.0), (batch.per_sample_ms, 0.5), (threads.gained, 21 / 12.6)]
        ):
            assert found is not None
            assert found.low is not None
            assert found.high is not None
            inside[at] += found.low <= truth <= found.high
    assert (inside / tries >= 0.93).all()
    assert (inside / tries <= 0.995).all()


def test_a_sample_lost_in_the_noise_has_no_batch_that_is_enough() -> None:
    found = over_batch([run(100.0)], [run(99.9, batch_size=8)], Usual(0.05**2, 4.0))
    assert found is not None
    assert found.enough is None
    assert over_batch([run()], [run()], EXACT) is None  # the batch did not change
    assert over_threads([run(threads=None)], [], EXACT) is None


def test_other_settings_are_a_quarter_of_the_batch_and_one_thread_or_every_core() -> None:
    asked = Asked("full", 9.0)
    assert asked_elsewhere(asked, run(), BATCH, 2) == replace(asked, budget_s=3.0, batch_size=8)
    assert asked_elsewhere(asked, run(batch_size=2), BATCH, 2).batch_size == 1
    assert asked_elsewhere(asked, run(threads=2), THREADS, 2).threads == 1
    assert asked_elsewhere(replace(asked, threads=1), run(threads=1), THREADS, 8).threads == 8
    for setting, one, cores in ((BATCH, run(batch_size=1), 2), (THREADS, run(threads=1), 1), (THREADS, run(), None)):
        with pytest.raises(LongpoleError, match=r"cannot be made smaller|one core"):
            asked_elsewhere(asked, one, setting, cores)


def test_slow_steps_get_the_time_that_a_few_of_them_take() -> None:
    """Steps of 2 s on two threads: at most 4 s on one, six of them 24 s; a smaller batch takes 12 s at most."""
    asked, slow = Asked("small", 6.0), run(2000.0, threads=2)
    assert asked_elsewhere(asked, slow, THREADS, 2).budget_s == 24.0
    assert asked_elsewhere(asked, slow, BATCH, 2).budget_s == 12.0


def test_a_run_that_was_too_slow_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(request: object) -> None:
        raise LongpoleError(why)

    monkeypatch.setattr(run_one, "rerun", fail)
    why = "longpole: only 3 steps were seen, all of them warm-up (--warmup 3)"
    with pytest.raises(LongpoleError, match=r"^its steps are too slow here .* 2 s a run; give a larger --budget$"):
        run_one.run_one("mlp", Asked("small", 2.0))
    why = "mlp: it broke"
    with pytest.raises(LongpoleError, match=r"^mlp: it broke$"):
        run_one.run_one("mlp", Asked("small", 2.0))


class Elsewhere:
    """Runs that take 4 + 3 n over the batch; where `broken`, another batch fails."""

    def __init__(self, broken: bool = False) -> None:
        self.broken, self.asked = broken, list[Asked]()

    def __call__(self, name: str, asked: Asked) -> Figures:
        self.asked.append(asked)
        if asked.batch_size and self.broken:
            raise LongpoleError("out of memory")
        batch = asked.batch_size or 32
        return run(4.0 + 3.0 * batch, batch_size=batch, threads=asked.threads or 2)


def test_a_survey_runs_each_network_elsewhere_once_and_keeps_it(tmp_path: Path) -> None:
    fake, plan = Elsewhere(), Plan([network("a")], Asked(), 3, tmp_path)
    (row,) = survey(plan, Progress(measure=fake)).rows
    assert [(one.batch_size, one.threads) for one in fake.asked] == [
        (None, None),
        (8, None),
        (None, 1),
        *[(None,) * 2] * 2,
    ]
    assert row.runs == 3
    assert row.over_batch is not None
    assert row.over_batch.fixed_ms.value == pytest.approx(4.0)
    assert row.over_threads is not None
    assert row.over_threads.threads == [1, 2]
    again = Elsewhere()
    assert survey(plan, Progress(measure=again)).rows == [row]
    assert not again.asked
    (without,) = survey(replace(plan, parallel=False), Progress(measure=again)).rows
    assert without.over_batch is without.over_threads is None


def test_another_setting_that_fails_leaves_its_own_figure_unknown(tmp_path: Path) -> None:
    found = survey(Plan([network("a")], Asked(), 4, tmp_path), Progress(measure=Elsewhere(broken=True)))
    (row,) = found.rows
    assert (row.runs, row.failed, row.over_batch) == (4, None, None)
    assert row.over_threads is not None
    assert row.not_known == {"batch": "out of memory"}
    for shown in (text(found, 100), page(found)):
        assert "What the batch costs is not known for a: out of memory." in shown


def test_cells_say_what_is_not_known_and_what_has_no_end() -> None:
    row = row_of(made(run()))
    row.over_threads = row.over_batch = None
    assert survey_parallel.pays_to(row) == "–"
    assert survey_parallel.gave(Estimate(1.5)) == "1.50x"
    assert survey_parallel.gave(Estimate(1.5, None, 2.0)) == "1.50x (…–2.00)"
    assert survey_parallel.serial_share(Estimate(1.4, 1.2, 1.6)) == "all"
    assert survey_parallel.serial_share(Estimate(-0.4, -0.6, -0.2)) == "none"
    assert survey_parallel.serial_share(Estimate(0.1, -0.1, 0.3)) == "10 % (0–30)"
    assert survey_parallel.limit(Estimate(3.0, 2.0, 4.0)) == "3.0x (2.0–4.0)"
    assert survey_parallel.limit(Estimate(3.0, 2.0, None)) == "over 2.0x"
    assert survey_parallel.limit(Estimate(0.6, 0.5, 0.8)) == "none"
    assert survey_parallel.cost(Estimate(1.0, -0.5, 2.0)) == "1.00 ms (0–2.00)"
    assert survey_parallel.limit(None) == survey_parallel.limit(Estimate(-2.0)) == "–"


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_three_figures_stand_in_the_table_and_on_the_page(width: int) -> None:
    """4 + 3 n, 20 + 80 / p on one and two threads, and 3 of 4 layers in a row for three quarters of the time."""
    one = made(run(100.0), run(100.0), batch=[run(28.0, batch_size=8)], threads=[run(60.0, threads=2)])
    found = made_survey(one)
    shown = text(found, width)
    assert max(map(len, shown.splitlines())) <= width
    assert "2 threads gave" in shown
    for figure in ("4.00 ms (", "3.00 ms (", "27 (", "1.67x (", "20 % (", "3 of 4"):
        assert figure in shown
        assert figure in page(found)


def test_a_busy_machine_is_named_where_threads_made_a_step_far_slower() -> None:
    slow = made(run(100.0), run(100.0), name="slow", threads=[run(900.0, threads=2)])
    good = made(run(100.0), run(100.0), name="good", threads=[run(60.0, threads=2)])
    for shown in (text(made_survey(slow, good), 200), page(made_survey(slow, good))):
        assert "More threads made slow far slower" in shown
    assert "far slower" not in text(made_survey(good), 200)


def test_nothing_is_said_of_what_no_row_knows() -> None:
    shown = text(made_survey(made(run(serial=None))), 100)
    assert "How parallel" not in shown
    assert "pays to" not in shown
    assert "threads gave" not in text(made_survey(made(run())), 100)


def test_claims_on_batch_and_threads() -> None:
    asks = {claim.asks: claim for claim in CLAIMS}
    batch, threads = asks["Does a larger batch still pay?"], asks["Do more threads make it faster?"]
    row = row_of(made(run()))
    assert batch.judge(row) is None
    assert threads.judge(row) is None
    one = made(run(100.0), run(100.0), batch=[run(28.0, batch_size=8)], threads=[run(60.0, threads=2)])
    row = row_of(one)
    row.over_batch = over_batch(one.runs, one.others["batch"], EXACT)
    row.over_threads = over_threads(one.runs, one.others["threads"], EXACT)
    found = batch.judge(row)
    assert found is not None
    assert found.holds is False  # 32 is more than 27
    assert "27" in found.figure
    found = threads.judge(row)
    assert found is not None
    assert found.holds is True
    assert found.figure == "2 are 1.67 (1.67–1.67) times as fast as one"
